//! Who runs a command, for the records of what operators decide.

use rustix::process::getuid;

/// Where accounts are listed.
const ACCOUNTS: &str = "/etc/passwd";

/// The given name, or otherwise that of the account that runs this process: in cron jobs and containers `USER` is
/// unset, and the record would name no one.
pub(super) fn named_or_own(name: Option<&str>) -> String {
    match name.filter(|name| !name.is_empty()) {
        Some(name) => name.to_owned(),
        None => account(getuid().as_raw(), &std::fs::read_to_string(ACCOUNTS).unwrap_or_default()),
    }
}

fn account(id: u32, accounts: &str) -> String {
    let name_of = |line: &str| {
        let mut fields = line.split(':');
        let (name, _password, user) = (fields.next()?, fields.next()?, fields.next()?);
        (user.parse() == Ok(id) && !name.is_empty()).then(|| name.to_owned())
    };
    accounts.lines().find_map(name_of).unwrap_or_else(|| format!("user {id}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_account_is_named_if_nobody_else_is() {
        let accounts = "root:x:0:0:root:/root:/bin/sh\nbroken\nann:x:1000:1000::/home/ann:/bin/sh\n";
        assert_eq!((account(1000, accounts), account(0, accounts)), ("ann".into(), "root".into()));
        assert_eq!((account(7, accounts), account(7, "")), ("user 7".into(), "user 7".into()));
        assert_eq!(named_or_own(Some("bob")), "bob");
        let own = account(getuid().as_raw(), &std::fs::read_to_string(ACCOUNTS).unwrap_or_default());
        assert_eq!((named_or_own(Some("")), named_or_own(None)), (own.clone(), own));
    }
}
