//! Users, environments and histories of images.

use super::*;

fn image(settings: &ImageSettings) -> Vec<(HardeningCheck, String)> {
    let superusers = Superusers::from(["root".to_owned(), "toor".to_owned(), "1000".to_owned()]);
    image_findings(settings, &superusers).into_iter().map(|finding| (finding.check, finding.detail)).collect()
}

#[test]
fn users_of_images() {
    for (user, os, is_root) in [
        ("", "linux", true),
        ("root", "linux", true),
        ("0", "linux", true),
        ("00", "linux", true),
        ("+0", "linux", true),
        ("-0", "linux", true),
        ("0:0", "linux", true),
        ("root:app", "linux", true),
        (":1000", "linux", true),
        ("toor", "linux", true),
        ("1000", "linux", true),
        ("1001", "linux", false),
        ("1001:0", "linux", false),
        ("app", "", false),
        ("nobody:nogroup", "linux", false),
        ("", "windows", true),
        ("ContainerUser", "windows", false),
    ] {
        let found = image(&ImageSettings { user: user.into(), os: os.into(), ..ImageSettings::default() });
        let checks: Vec<_> = found.iter().map(|(check, _)| *check).collect();
        assert_eq!(checks == [Check::ImageUser], is_root, "{user} {os}: {found:?}");
    }
}

fn user() -> ImageSettings {
    ImageSettings { user: "1001".into(), ..ImageSettings::default() }
}

#[test]
fn environments_of_images() {
    let token = format!("ghp_{}", letters(36));
    for (assignment, expected) in [
        ("DB_PASSWORD=hunter2", Some("Env DB_PASSWORD")),
        ("AWS_SECRET_ACCESS_KEY=abc", Some("Env AWS_SECRET_ACCESS_KEY")),
        ("apiToken=abc", Some("Env apiToken")),
        ("DATABASE_URL=postgres://a:b1@db/x", Some("Env DATABASE_URL")),
        ("DB_PASSWORD=", None),
        ("DB_PASSWORD_FILE=/run/secrets/x", None),
        ("ALLOW_EMPTY_PASSWORD=no", None),
        ("ALLOW_EMPTY_PASSWORD=yes", None),
        ("SSH_ASKPASS=echo", None),
        ("CACHE_BYPASS=abc", None),
        ("MONGODB_COMPASS=abc", None),
        ("GPG_KEY=7169605F62C751356D054A26A821E680E5FA6305", None),
        ("PATH=/usr/bin", None),
        ("GOOGLE_APPLICATION_CREDENTIALS=/key.json", None),
        ("HTTP_PROXY=http://proxy:3128", None),
        ("nothing", None),
    ] {
        let found = image(&ImageSettings { env: vec![assignment.into()], ..user() });
        let expected: Vec<_> = expected.map(|detail| (Check::ImageEnvSecret, detail.to_owned())).into_iter().collect();
        assert_eq!(found, expected, "{assignment}");
    }
    let found = image(&ImageSettings { env: vec![format!("X={token}")], ..user() });
    assert!(
        matches!(&found[..], [(Check::ImageEnvSecret, detail)] if detail.starts_with("Env X: GitHub token")),
        "{found:?}"
    );
}

#[test]
fn commands_of_images() {
    let token = format!("ghp_{}", letters(36));
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    for (command, checks) in [
        ("/usr/sbin/sshd -D", vec![Check::ImageSshServer]),
        ("mysqld --skip-grant-tables", vec![Check::MysqlSkipGrantTables]),
        ("mysqld --user=mysql", vec![]),
        ("app --db postgres://a:b1@db/x", vec![Check::ImageCommandSecret]),
        ("app --password=hunter2longvalue", vec![Check::ImageCommandSecret]),
        ("app --password hunter2longvalue", vec![Check::ImageCommandSecret]),
        ("app -api-token hunter2longvalue --verbose", vec![Check::ImageCommandSecret]),
        ("env PGPASSWORD=hunter2longvalue psql", vec![Check::ImageCommandSecret]),
        ("env MYSQL_PWD=hunter2longvalue mysql", vec![Check::ImageCommandSecret]),
        ("app --password=$PASSWORD --token ${TOKEN}", vec![]),
        ("redis-server --requirepass hunter2longvalue", vec![Check::ImageCommandSecret]),
        ("psql --no-password mydb --ask-vault-pass site.yml --proxy-pass b:80", vec![]),
        ("app --use-token serve --skip-password db --password %SECRET% --token `cat", vec![]),
        ("app --password --verbose", vec![]),
        ("app --password-file /run/secrets/x --password /run/secrets/y", vec![]),
        ("app --password", vec![]),
        ("env PWD=x app", vec![]),
        ("nginx -g daemon", vec![]),
    ] {
        let found = image(&ImageSettings { command: words(command), ..user() });
        assert_eq!(found.iter().map(|(check, _)| *check).collect::<Vec<_>>(), checks, "{command}");
    }
    for script in
        ["PGPASSWORD=hunter2longvalue psql", "exec app --password hunter2longvalue", "app --token=abc && true"]
    {
        let found = image(&ImageSettings { command: ["sh", "-c", script].map(str::to_owned).to_vec(), ..user() });
        assert!(matches!(&found[..], [(Check::ImageCommandSecret, _)]), "{script}: {found:?}");
    }
    let found = image(&ImageSettings { command: vec!["app".into(), token], ..user() });
    assert_eq!(found[0].0, Check::ImageCommandSecret);
    let ports = ["22/tcp", "80/tcp", "22/udp", "2375", "99999"].map(str::to_owned).to_vec();
    let found = image(&ImageSettings { exposed_ports: ports, ..user() });
    assert_eq!(found.iter().map(|(check, _)| *check).collect::<Vec<_>>(), [Check::ImageExposedPort; 2], "{found:?}");
}

#[test]
fn histories_of_images() {
    let token = format!("ghp_{}", letters(36));
    for (step, is_found) in [
        ("ARG NPM_TOKEN=abc".to_owned(), true),
        ("/bin/sh -c #(nop)  ENV DB_PASSWORD=hunter2".to_owned(), true),
        ("RUN |2 A=1 NPM_TOKEN=abc /bin/sh -c npm ci # buildkit".to_owned(), true),
        ("|1 NPM_TOKEN=abc /bin/sh -c npm ci".to_owned(), true),
        (format!("RUN /bin/sh -c git clone https://{token}@github.com/x/y"), true),
        ("ENV KEPT_PASSWORD=hunter2".to_owned(), false),
        ("RUN /bin/sh -c apt-get update".to_owned(), false),
        ("|99999999999 x".to_owned(), false),
        ("ARG NPM_TOKEN".to_owned(), false),
        ("COPY . . # buildkit".to_owned(), false),
    ] {
        let settings = ImageSettings {
            history: vec!["first".into(), step.clone()],
            env: vec!["KEPT_PASSWORD=hunter2".into()],
            ..user()
        };
        let found = image(&settings);
        let steps: Vec<_> = found.iter().filter(|(check, _)| *check == Check::ImageHistorySecret).collect();
        assert_eq!(steps.len(), usize::from(is_found), "{step}: {found:?}");
        assert!(steps.iter().all(|(_, detail)| detail.starts_with("step 2 of the history: ")), "{steps:?}");
    }
}
