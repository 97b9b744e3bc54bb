//! Transparency logs and time-stamping authorities.

use super::*;

/// What is signed with a key and logged has a proven time: a key that is no longer valid counts for what it signed
/// before, and never for what it signed later.
#[test]
fn logs_and_time_stamps_prove_when_a_key_signed() {
    let instance = Instance::start();
    let key = crate::cosign::Key::generate(instance.path(), "release");
    let day = |when: &str| {
        let date = ["--utc", "--date", when, "+%Y-%m-%dT%H:%M:%SZ"];
        Program::new("date", instance.path()).args(date).run().text()
    };
    let authority = |name: &str, limits: &str, log: &str| {
        format!("  - name: {name}\n    cosign: {{key: {{file: release.pub{limits}}}, transparencyLog: {log}}}\n")
    };
    let (yesterday, tomorrow) = (day("1 day ago"), day("1 day"));
    let spec = format!(
        "  authorities:\n{}{}{}  repositories:\n  - {{name: \"{UPSTREAM}/logged/*\", policy: {{trust: logged}}}}\n  \
         - {{name: \"{UPSTREAM}/valid/*\", policy: {{trust: valid}}}}\n  \
         - {{name: \"{UPSTREAM}/ended/*\", policy: {{trust: ended}}}}\n",
        authority("logged", "", "require"),
        authority("valid", &format!(", validFrom: {yesterday}, validUntil: {tomorrow}"), "require"),
        authority("ended", &format!(", validUntil: {yesterday}"), "ignore"),
    );
    let world = Signed::with(&instance.file("trusted_root.json"), &spec, &[instance.path().join("release.pub")]);
    let private = key.private.display().to_string();
    for (repository, refused) in
        [("logged/app", None), ("valid/app", None), ("ended/app", Some("(validUntil), and it was signed at"))]
    {
        let image = world.push(repository);
        instance.cosign("sign").args(["--key", &private, &world.reference(&image)]).run().bytes();
        match refused {
            None => world.admits(&image),
            Some(part) => world.denies(&image, part),
        }
    }
}
