use super::*;

/// The distribution of an image with these release files.
fn found(files: &[(&str, &str)]) -> String {
    let files: BTreeMap<String, String> =
        files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
    let text = |path: &str| files.get(path).map(String::as_str);
    distribution(&text, true).map_or_else(
        || "none".to_owned(),
        |found| {
            let repository =
                found.repository.map_or_else(String::new, |repository| format!(" repository {repository}"));
            let support = if found.extended_support { " extended" } else { "" };
            let derivative = found.derivative.map_or_else(String::new, |id| format!(" as {id}"));
            format!("{} {}{repository}{support}{derivative}", found.id, found.version).trim_end().to_owned()
        },
    )
}

const OS: &str = "etc/os-release";
const COREOS: (&str, &str) = ("etc/redhat-release", "Red Hat Enterprise Linux CoreOS release 4.16\n");

#[test]
fn distributions_are_recognised() {
    let debian = (
        OS,
        "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nID=debian\nVERSION_ID=\"12\"\nVERSION_CODENAME=bookworm\n",
    );
    for (files, wanted) in [
        (&[debian, ("etc/debian_version", "12.5\n")][..], "debian 12"),
        (&[("usr/lib/os-release", debian.1)], "debian 12"),
        (&[("etc/debian_version", "12.5\n")], "debian 12.5"),
        (&[(OS, "ID=debian\nVERSION_CODENAME=trixie\n"), ("etc/debian_version", "trixie/sid\n")], "debian"),
        (&[("etc/debian_version", "trixie/sid\n")], "debian"),
        (
            &[(OS, "ID=ubuntu\nID_LIKE=debian\nVERSION_ID=\"22.04\"\n"), ("etc/debian_version", "bookworm/sid\n")],
            "ubuntu 22.04 extended",
        ),
        (
            &[
                ("etc/lsb-release", "DISTRIB_ID=Ubuntu\nDISTRIB_RELEASE=16.04\n"),
                ("etc/debian_version", "stretch/sid\n"),
            ],
            "ubuntu 16.04 extended",
        ),
        (
            &[(OS, "ID=raspbian\nID_LIKE=debian\nVERSION_ID=11\n"), ("etc/debian_version", "11.9\n")],
            "debian 11.9 as raspbian",
        ),
        (&[(OS, "ID=alpine\nVERSION_ID=3.19.1\n"), ("etc/alpine-release", "3.19.1\n")], "alpine 3.19.1"),
        (&[("etc/alpine-release", "3.18.0\n")], "alpine 3.18.0"),
        (&[(OS, "ID=wolfi\nVERSION_ID=\"20230201\"\n")], "wolfi 20230201"),
        (&[(OS, "ID=chainguard\nVERSION_ID=\"20230214\"\n")], "chainguard 20230214"),
        (&[(OS, "ID=mariner\nVERSION_ID=\"2.0\"\n")], "mariner 2.0"),
        (&[(OS, "ID=azurelinux\nVERSION_ID=\"3.0\"\n")], "azurelinux 3.0"),
        (&[(OS, "ID=photon\nVERSION_ID=5.0\n")], "photon 5.0"),
        (&[(OS, "ID=\"sles\"\nVERSION_ID=\"15.5\"\n")], "sles 15.5"),
        (&[(OS, "ID=\"opensuse-leap\"\nVERSION_ID=\"15.6\"\n")], "opensuse-leap 15.6"),
        (&[(OS, "ID=\"opensuse-tumbleweed\"\nVERSION_ID=\"20240501\"\n")], "opensuse-tumbleweed 20240501"),
        (&[debian, ("etc/alpine-release", "3.19.1\n")], "debian 12"),
        (&[(OS, "NAME=BusyBox\n")], "none"),
        (&[(OS, "ID=arch\n")], "arch"),
        (&[], "none"),
    ] {
        assert_eq!(found(files), wanted, "{files:?}");
    }
}

#[test]
fn distributions_of_the_red_hat_family_are_recognised() {
    for (files, wanted) in [
        (
            &[
                (OS, "NAME=\"Red Hat Enterprise Linux\"\nID=\"rhel\"\nVERSION_ID=\"9.4\"\n"),
                ("etc/redhat-release", "Red Hat Enterprise Linux release 9.4 (Plow)\n"),
            ][..],
            "rhel 9.4",
        ),
        (&[("etc/redhat-release", "Red Hat Enterprise Linux Server release 6.2 (Santiago)\n")], "rhel 6.2"),
        (&[("etc/redhat-release", "CentOS Linux release 7.9.2009 (Core)\n")], "centos 7.9.2009"),
        (&[(OS, "NAME=\"CentOS Linux\"\nID=\"centos\"\nVERSION_ID=\"7\"\n")], "centos 7"),
        (&[(OS, "NAME=\"CentOS Stream\"\nID=\"centos\"\nVERSION_ID=\"9\"\n")], "centos-stream 9"),
        (
            &[
                (OS, "ID=\"ol\"\nVERSION_ID=\"8.9\"\n"),
                ("etc/oracle-release", "Oracle Linux Server release 8.9\n"),
                ("etc/redhat-release", "Red Hat Enterprise Linux release 8.9 (Ootpa)\n"),
            ],
            "ol 8.9",
        ),
        (
            &[
                ("etc/oracle-release", "Oracle Linux Server release 7.6\n"),
                ("etc/redhat-release", "Red Hat Enterprise Linux Server release 7.6 (Maipo)\n"),
            ],
            "ol 7.6",
        ),
        (&[(OS, "ID=\"rocky\"\nVERSION_ID=\"9.3\"\n")], "rocky 9.3"),
        (
            &[
                (OS, "ID=\"anolis\"\nID_LIKE=\"rhel fedora centos\"\nVERSION_ID=\"8.8\"\n"),
                ("etc/redhat-release", "Anolis OS release 8.8\n"),
            ],
            "rhel 8.8 as anolis",
        ),
        (&[(OS, "ID=rhcos\nVERSION_ID=4.16\n"), COREOS], "rhcos 4.16"),
        (&[(OS, "ID=rhel\nVARIANT_ID=coreos\nVERSION_ID=4.16\nRHEL_VERSION=9.4\n"), COREOS], "rhel 9.4 as rhcos"),
        (&[COREOS], "none"),
        (&[("etc/rocky-release", "Rocky Linux release 8.4 (Green Obsidian)\n")], "rocky 8.4"),
        (&[(OS, "ID=\"almalinux\"\nVERSION_ID=\"9.3\"\n")], "almalinux 9.3"),
        (&[("etc/almalinux-release", "AlmaLinux release 8.4 (Electric Cheetah)\n")], "almalinux 8.4"),
        (&[("usr/lib/fedora-release", "Fedora release 40 (Forty)\n")], "fedora 40"),
        (
            &[
                (OS, "ID=\"amzn\"\nVERSION_ID=\"2023\"\n"),
                ("usr/lib/system-release", "Amazon Linux release 2023 (Amazon Linux)\n"),
            ],
            "amzn 2023",
        ),
        (&[("etc/system-release", "Amazon Linux release 2 (Karoo)\n")], "amzn 2"),
        (&[("etc/system-release", "Amazon Linux AMI release 2018.03\n")], "amzn 2018.03"),
    ] {
        assert_eq!(found(files), wanted, "{files:?}");
    }
}

#[test]
fn point_releases_of_debian_are_read() {
    let point = |os: &str, file: &str| {
        let text = |path: &str| match path {
            OS => Some(os),
            "etc/debian_version" => Some(file),
            _ => None,
        };
        distribution(&text, false).unwrap().point_release
    };
    let debian = "ID=debian\nVERSION_ID=\"12\"\n";
    assert_eq!(point(debian, "12.5\n").as_deref(), Some("12.5"));
    for (os, file) in [
        (debian, "12\n"),
        (debian, "11.9\n"),
        (debian, "120.1\n"),
        (debian, "12.x\n"),
        (debian, "bookworm/sid\n"),
        ("ID=debian\n", "12.5\n"),
        ("ID=ubuntu\nVERSION_ID=12\n", "12.5\n"),
    ] {
        assert_eq!(point(os, file), None, "{os} {file}");
    }
}

#[test]
fn the_repositories_of_alpine_are_read() {
    let os = (OS, "ID=alpine\nVERSION_ID=3.19.1\n");
    for (repositories, wanted) in [
        (
            "https://dl-cdn.alpinelinux.org/alpine/v3.19/main\nhttps://dl-cdn.alpinelinux.org/alpine/v3.19/community\n",
            " repository 3.19",
        ),
        ("https://x/alpine/v3.9/main\nhttps://x/alpine/v3.10/main\n", " repository 3.10"),
        ("https://x/alpine/v3.19/main\nhttps://x/alpine/edge/testing\n", " repository edge"),
        ("https://x/alpine/v3.19/main\nhttps://x/wolfi/v1/os\n", ""),
        ("/media/cdrom/apks\n", ""),
        (
            "https://x/alpine/v3.19/main\n#https://x/alpine/edge/testing\n # https://x/alpine/v3.20/main",
            " repository 3.19",
        ),
        ("https://x/alpine/v3.19/main\n@edge https://x/alpine/edge/testing\n", " repository 3.19"),
        ("https://x/alpine/latest-stable/main\n", ""),
    ] {
        assert_eq!(found(&[os, ("etc/apk/repositories", repositories)]), format!("alpine 3.19.1{wanted}"));
    }
}

#[test]
fn extended_support_is_read_from_json() {
    assert!(is_ubuntu_pro(br#"{"services": [{"name": "esm-apps"}, {"name": "esm-infra", "status": "enabled"}]}"#));
    for other in [&br#"{"services": [{"name": "esm-infra", "status": "disabled"}]}"#[..], b"{}", b"[", b""] {
        assert!(!is_ubuntu_pro(other));
    }
}
