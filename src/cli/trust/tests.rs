//! Trusted roots from files. Those from a repository: [`repository`].

mod repository;

use sigstore_verify::trust_root::{SIGSTORE_PRODUCTION_TRUSTED_ROOT, SIGSTORE_STAGING_TRUSTED_ROOT};

use super::install::read;
use super::status::{StatusArgs, describe, status_of};
use super::*;
use crate::cli::Output;
use crate::policy::TrustedRoot;
use serde_json::Value;

/// The public root with all validity of keys beginning and ending with these years.
fn root(from: &str, until: &str) -> String {
    let mut root: Value = serde_json::from_str(SIGSTORE_PRODUCTION_TRUSTED_ROOT).unwrap();
    let window =
        serde_json::json!({"start": format!("{from}-01-01T00:00:00Z"), "end": format!("{until}-01-01T00:00:00Z")});
    for list in ["tlogs", "ctlogs"] {
        root[list].as_array_mut().unwrap().iter_mut().for_each(|log| log["publicKey"]["validFor"] = window.clone());
    }
    for list in ["certificateAuthorities", "timestampAuthorities"] {
        root[list].as_array_mut().unwrap().iter_mut().for_each(|one| one["validFor"] = window.clone());
    }
    root.to_string()
}

#[test]
fn roots_are_replaced_by_newer_ones_alone() {
    let folder = tempfile::tempdir().unwrap();
    let now = "2026-06-01T00:00:00Z".parse().unwrap();
    let [old, new, expired, broken, to] =
        ["old", "new", "expired", "broken", "to"].map(|name| folder.path().join(name));
    std::fs::write(&old, root("2022", "2030")).unwrap();
    std::fs::write(&new, root("2024", "2030")).unwrap();
    std::fs::write(&expired, root("2022", "2025")).unwrap();
    std::fs::write(&broken, "{}").unwrap();
    assert!(update_from_file(&old, &to, now).unwrap().starts_with("wrote"));
    assert!(update_from_file(&new, &to, now).unwrap().starts_with("replaced"));
    assert!(update_from_file(&new, &to, now).unwrap().ends_with("up to date"));
    assert!(update_from_file(&old, &to, now).unwrap_err().contains("is older than"));
    assert!(update_from_file(&expired, &to, now).unwrap_err().contains("have expired"));
    assert!(update_from_file(&broken, &to, now).unwrap_err().contains("is not a trusted root"));
    assert!(update_from_file(&folder.path().join("absent"), &to, now).is_err());
    assert_eq!(std::fs::read(&to).unwrap(), std::fs::read(&new).unwrap());
    let status = |files: &[&Path]| {
        let args = StatusArgs {
            files: files.iter().map(|file| file.to_path_buf()).collect(),
            config: None,
            output: Output::Table,
        };
        status::run(&args, now)
    };
    assert_eq!(status(&[&old, &new]), Exit::Ok);
    assert_eq!(status(&[&new, &expired]), Exit::Denied);
    assert_eq!(status(&[&broken]), Exit::Denied);
    let json = status_of(&[new.clone(), expired.clone(), broken.clone()]).as_json(now);
    let roots = json["trusted_roots"].as_array().unwrap();
    assert_eq!((&roots[0]["file"], &roots[0]["error"]), (&new.display().to_string().into(), &Value::Null));
    assert_eq!((&roots[0]["until"], &roots[0]["ended"]), (&"2030-01-01T00:00:00Z".into(), &Value::Null));
    assert_eq!(roots[0]["keys"][0]["until"], "2030-01-01T00:00:00Z", "{json}");
    assert!(roots[1]["ended"].as_str().unwrap().contains("have expired") && roots[1]["source"].is_null(), "{json}");
    assert!(roots[2]["error"].as_str().unwrap().contains("is not a trusted root"), "{json}");
    let text = describe(&read(&expired).unwrap(), None, now);
    assert!(text.contains("ENDED: all of its keys have expired, the last at 2025-01-01T00:00:00Z"), "{text}");
    assert!(text.contains("(ended)") && text.contains("its file is 0 days old"), "{text}");
}

#[test]
fn public_roots_can_be_read_and_have_no_end() {
    for text in [SIGSTORE_PRODUCTION_TRUSTED_ROOT, SIGSTORE_STAGING_TRUSTED_ROOT] {
        let root = TrustedRoot::from_json("root", text.as_bytes()).unwrap();
        assert_eq!(root.until(), None);
        assert!(describe(&root, None, Timestamp::MAX).contains("certificate authority"));
    }
}
