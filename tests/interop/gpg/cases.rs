//! The cases: keys, identities, messages.

use super::*;

/// Signatures that skopeo makes, in both of its ways.
pub(super) fn signed_cases(world: &mut Signing, keys: &Keys) {
    for (name, key) in
        [("file/rsa", "rsa"), ("http/ed25519", "ed25519"), ("http/p256", "p256"), ("file/subkey", "primary")]
    {
        let image = world.push(name);
        let manifest = world.path("manifest.json");
        let crane = ["manifest", "--insecure", &format!("{}:v1", world.name(&image))];
        fs::write(&manifest, Program::new("crane", world.dir.path()).args(crane).run().bytes()).expect("the manifest");
        let signature = world.path("signature");
        let reference = format!("{}:v1", world.name(&image));
        let arguments = [
            "standalone-sign".as_ref(),
            manifest.as_os_str(),
            reference.as_ref(),
            keys.fingerprint(key).as_ref(),
            "--output".as_ref(),
            signature.as_os_str(),
        ]
        .map(|argument: &std::ffi::OsStr| argument.to_owned());
        Program::new("skopeo", world.dir.path()).env("GNUPGHOME", &keys.0).args(arguments).run().bytes();
        world.store(&image, &[fs::read(&signature).expect("a signature")]);
        let ring = keys.ring(&[key], &world.path(&format!("{key}.gpg")));
        // Until containers/image 5.36, the fingerprint of a subkey was compared with those of primary keys.
        let admitted = (key != "primary" || accepts_subkeys(), true);
        world.case(image, json!([signed_by(&ring)]), admitted, ":v1", "");
    }
    let from = world.push("unsigned/source");
    let to = Image { repository: "file/copied".into(), ..from.clone() };
    let staging = world.path("staging.d");
    fs::create_dir(&staging).expect("a directory");
    let section = format!("default-docker: {{lookaside-staging: \"file://{}\"}}\n", world.path("file").display());
    fs::write(staging.join("staging.yaml"), section).expect("registries.d");
    let reference = |image: &Image| format!("docker://{}:v1", world.name(image));
    let tls = ["--src-tls-verify=false", "--dest-tls-verify=false", "--sign-by", &keys.fingerprint("rsa")];
    let staging = staging.display().to_string();
    let copy = [&["--insecure-policy", "--registries.d", &staging, "copy"], &tls[..]].concat();
    let copied = Program::new("skopeo", world.dir.path()).env("GNUPGHOME", &keys.0).args(copy);
    copied.args([reference(&from), reference(&to)]).run().bytes();
    let ring = world.path("rsa.gpg");
    world.agree(to, json!([signed_by(&ring)]), true, "");
    world.agree(from, json!([signed_by(&ring)]), false, "not signed");
}

/// Keys that are expired, revoked, or of somebody else; lists of requirements.
pub(super) fn key_cases(world: &mut Signing, keys: &Keys) {
    let rsa = world.path("rsa.gpg");
    let ed25519 = world.path("ed25519.gpg");
    let mut signed = Vec::new();
    for (name, key, options) in [
        ("file/stranger", "stranger", &[][..]),
        ("file/expired", "expired", &["--faked-system-time", "20200101T120000"]),
        ("file/revoked", "revoked", &[]),
        ("file/subkey-revoked", "half", &[]),
        ("file/future", "rsa", &["--faked-system-time", "20990101T000000", "--default-sig-expire", "1d"]),
        ("file/lapsed", "ed25519", &["--default-sig-expire", "seconds=1"]),
    ] {
        let image = world.push(name);
        let payload = world.payload(&image, &format!("{}:v1", world.name(&image)));
        world.store(&image, &[keys.sign(key, &payload, options)]);
        signed.push(image);
    }
    keys.revoke("revoked");
    keys.revoke_subkey("half");
    thread::sleep(std::time::Duration::from_secs(2));
    let own = |key: &str| keys.ring(&[key], &world.path(&format!("{key}.gpg")));
    let rings = [rsa.clone(), own("expired"), own("revoked"), own("half"), rsa.clone(), ed25519.clone()];
    let reasons = ["which is not in the key ring", "not valid now", "revoked", "revoked", "ot live until", "xpired"];
    for ((image, ring), reason) in signed.into_iter().zip(rings).zip(reasons) {
        // gpg takes a signature from the future for a good one; here the gate is stricter on purpose.
        let skopeo = image.repository == "file/future";
        world.case(image, json!([signed_by(&ring)]), (skopeo, false), ":v1", reason);
    }
    for (name, signers, admitted) in [
        ("file/both", &["rsa", "ed25519"][..], true),
        ("file/one", &["rsa"], false),
        ("file/good-last", &["stranger", "rsa", "ed25519"], true),
    ] {
        let image = world.push(name);
        let payload = world.payload(&image, &format!("{}:v1", world.name(&image)));
        let signatures: Vec<_> = signers.iter().map(|key| keys.sign(key, &payload, &[])).collect();
        world.store(&image, &signatures);
        world.agree(image, json!([signed_by(&rsa), signed_by(&ed25519)]), admitted, "not in the key ring");
    }
    let either = json!([{"type": "signedBy", "keyType": "GPGKeys", "keyPaths": [ed25519, rsa]}]);
    let ring = keys.ring(&["stranger", "rsa"], &world.path("several.gpg"));
    for (name, requirements, admitted) in [
        ("file/paths", either, true),
        ("file/several", json!([signed_by(&ring)]), true),
        ("file/rejected", json!([signed_by(&rsa), {"type": "reject"}]), false),
        ("file/accepted", json!([{"type": "insecureAcceptAnything"}]), true),
        ("file/accepted-too", json!([{"type": "insecureAcceptAnything"}, signed_by(&rsa)]), true),
    ] {
        let image = world.push(name);
        let payload = world.payload(&image, &format!("{}:v1", world.name(&image)));
        world.store(&image, &[keys.sign("rsa", &payload, &[])]);
        world.agree(image, requirements, admitted, "rejects every image");
    }
}

/// The name in the signature, and the one that is pulled.
pub(super) fn identity_cases(world: &mut Signing, keys: &Keys) {
    let (rsa, address) = (world.path("rsa.gpg"), world.registry.address().to_owned());
    let exact = |kind: &str| json!({"type": kind});
    let named = |kind: &str, key: &str, value: &str| json!({"type": kind, key: value});
    let remap =
        json!({"type": "remapIdentity", "prefix": format!("{address}/id"), "signedPrefix": "origin.example.com/a"});
    for (name, signed, identity, suffix, admitted) in [
        ("id/default-tag", "OWN:v1", exact("matchRepoDigestOrExact"), ":v1", true),
        ("id/default-other-tag", "OWN:v2", exact("matchRepoDigestOrExact"), ":v1", false),
        ("id/default-digest", "OWN:v2", exact("matchRepoDigestOrExact"), "@DIGEST", true),
        ("id/default-other", "registry.example.com/x:v1", exact("matchRepoDigestOrExact"), "@DIGEST", false),
        ("id/default-bare", "OWN", exact("matchRepoDigestOrExact"), ":v1", false),
        ("id/exact-tag", "OWN:v1", exact("matchExact"), ":v1", true),
        ("id/exact-digest", "OWN:v1", exact("matchExact"), "@DIGEST", false),
        ("id/repository", "OWN:v9", exact("matchRepository"), ":v1", true),
        ("id/repository-bare", "OWN", exact("matchRepository"), ":v1", true),
        ("id/repository-other", "OWN/more:v1", exact("matchRepository"), ":v1", false),
        (
            "id/reference",
            "busybox:v1",
            named("exactReference", "dockerReference", "docker.io/library/busybox:v1"),
            ":v1",
            true,
        ),
        (
            "id/reference-tag",
            "busybox:v2",
            named("exactReference", "dockerReference", "docker.io/library/busybox:v1"),
            ":v1",
            false,
        ),
        (
            "id/one-repository",
            "busybox:v2",
            named("exactRepository", "dockerRepository", "docker.io/library/busybox"),
            ":v1",
            true,
        ),
        ("id/remap", "origin.example.com/a/remap:v1", remap.clone(), ":v1", true),
        ("id/remap-digest", "origin.example.com/a/remap-digest:v7", remap.clone(), "@DIGEST", true),
        ("id/remap-own", "OWN:v1", remap.clone(), ":v1", false),
    ] {
        let image = world.push(name);
        let own = world.name(&image);
        let payload = world.payload(&image, &signed.replace("OWN", &own));
        world.store(&image, &[keys.sign("rsa", &payload, &[])]);
        let reason = "does not match signedIdentity";
        world.case(image, json!([with_identity(&rsa, identity)]), (admitted, admitted), suffix, reason);
    }
}

/// What a signature file may contain instead of a signed message.
pub(super) fn message_cases(world: &mut Signing, keys: &Keys) {
    let rsa = world.path("rsa.gpg");
    let other = world.push("file/elsewhere");
    let other_payload = world.payload(&other, &format!("{}:v1", world.name(&other)));
    for (name, options, change, admitted, reason) in [
        ("m/moved", &[][..], "other", (false, false), "is for another image"),
        ("m/zlib", &["--compress-algo", "zlib"], "", (true, true), ""),
        ("m/uncompressed", &["--compress-algo", "none"], "", (true, true), ""),
        ("m/sha512", &["--digest-algo", "SHA512"], "", (true, true), ""),
        ("m/twice", &["--local-user", "=ed25519"], "", (false, false), "more than one signature"),
        ("m/critical", &["--set-notation", "!only@example.com=x"], "", (false, false), "notation"),
        ("m/notation", &["--set-notation", "only@example.com=x"], "", (true, true), ""),
        ("m/type", &[], "type", (false, false), "its type is not"),
        ("m/member", &[], "member", (false, false), "unknown members"),
        ("m/duplicate", &[], "duplicate", (false, false), "strict JSON"),
        ("m/optional", &[], "optional", (false, false), "optional"),
        ("m/broken", &[], "broken", (false, false), ""),
        ("m/trailing", &["--compress-algo", "none"], "trailing", (false, false), "is more than one message"),
        // gpg does not write the length of compressed data, so what follows it is part of it, and is read by nobody.
        ("m/padded", &[], "trailing", (true, true), ""),
        ("m/armor", &["--armor"], "", (false, false), "ASCII-armoured"),
        // Here the gate is stricter on purpose.
        ("m/sha1", &["--digest-algo", "SHA1"], "", (true, false), "SHA1"),
    ] {
        let image = world.push(name);
        let mut payload = world.payload(&image, &format!("{}:v1", world.name(&image)));
        match change {
            "other" => payload.clone_from(&other_payload),
            "type" => payload = payload.replace("atomic container", "cosign container image"),
            "member" => payload = payload.replace("\"critical\":{", "\"critical\":{\"more\":1,"),
            "duplicate" => payload = payload.replace("\"optional\":{", "\"optional\":{},\"optional\":{"),
            "optional" => payload = payload.replace("\"timestamp\":1", "\"timestamp\":\"now\""),
            _ => {}
        }
        let mut signature = keys.sign("rsa", &payload, options);
        match change {
            "broken" => signature.truncate(signature.len() / 2),
            "trailing" => signature.extend(signature.clone()),
            _ => {}
        }
        world.store(&image, &[signature]);
        world.case(image, json!([signed_by(&rsa)]), admitted, ":v1", reason);
    }
    world.agree(other, json!([signed_by(&rsa)]), false, "not signed");
    let payload = |world: &Signing, image: &Image| world.payload(image, &format!("{}:v1", world.name(image)));
    for (name, arguments, reason) in [
        ("m/literal", &["--store"][..], "is not signed"),
        ("m/detached", &["--local-user", "=rsa", "--detach-sign"], "is a detached signature"),
        ("m/cleartext", &["--local-user", "=rsa", "--clear-sign"], "is a cleartext signature"),
        ("m/encrypted", &["--passphrase", "secret", "--symmetric"], "is encrypted"),
        ("m/text", &["--enarmor"], "ASCII-armoured"),
    ] {
        let image = world.push(name);
        let file = keys.0.join("payload");
        fs::write(&file, payload(world, &image)).expect("the payload");
        let output = ["--output", "-"];
        let signature = keys.gpg(&[&output, arguments, &[&file.display().to_string()]].concat()).bytes();
        world.store(&image, &[signature]);
        world.agree(image, json!([signed_by(&rsa)]), false, reason);
    }
}
