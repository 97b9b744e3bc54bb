//! `etc/passwd` and `etc/shadow` (passwd(5), shadow(5)).

use super::{FileObservation, HardeningCheck, MAX_OBSERVATIONS, numbered_lines};

/// The maximum number of names of superusers that are kept.
const MAX_SUPERUSERS: usize = 16;
/// The longest name that is kept, in bytes. Linux allows 32.
const MAX_NAME: usize = 256;

/// Accounts without a password, and accounts with the rights of the superuser.
pub(super) fn passwd(text: &str) -> Vec<FileObservation> {
    let mut found = without_password(text);
    let superuser = |(_, line): (usize, &str)| {
        let fields: Vec<&str> = line.splitn(4, ':').collect();
        let [name, _, user, _] = fields[..] else { return None };
        let is_superuser = user.trim().parse() == Ok(0_i64) && name.len() <= MAX_NAME;
        is_superuser.then(|| FileObservation::Superuser(name.to_owned()))
    };
    let superusers: Vec<FileObservation> = numbered_lines(text).filter_map(superuser).take(MAX_SUPERUSERS).collect();
    found.truncate(MAX_OBSERVATIONS - superusers.len());
    // They come first: one that is lost would make a root user look like another one.
    [superusers, found].concat()
}

/// Accounts without a password.
pub(super) fn shadow(text: &str) -> Vec<FileObservation> {
    without_password(text)
}

/// Accounts whose second field is empty: anyone can log in.
fn without_password(text: &str) -> Vec<FileObservation> {
    let lines = numbered_lines(text).filter(|(_, line)| !line.starts_with(['#', '+', '-']));
    let found = lines.filter_map(|(number, line)| {
        let mut fields = line.split(':');
        let (name, password, _) = (fields.next()?, fields.next()?, fields.next()?);
        let detail = || format!("the account {name} has no password");
        (password.is_empty() && !name.is_empty())
            .then(|| FileObservation::unsafe_line(HardeningCheck::AccountsEmptyPassword, number, detail()))
    });
    found.take(MAX_OBSERVATIONS).collect()
}
