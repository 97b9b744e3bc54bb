//! Which files are examined, by their paths: without a leading `/`.

/// A file whose format is known by its path.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum KnownFile {
    Apache,
    AuthorizedKeys,
    AwsCredentials,
    DockerConfig,
    EnvFile,
    GcpCredentials,
    GitCredentials,
    Kubeconfig,
    Mysql,
    Netrc,
    Nginx,
    Npmrc,
    Passwd,
    Pgpass,
    PrivateKey,
    Pypirc,
    Shadow,
    SshdConfig,
}

/// Directories of the system, of languages and of package managers: their content comes from third parties, and keys in
/// them are for tests.
const FOREIGN_FOLDERS: [&str; 19] = [
    "boot/",
    "lib/",
    "lib32/",
    "lib64/",
    "libx32/",
    "usr/include/",
    "usr/lib/",
    "usr/lib32/",
    "usr/lib64/",
    "usr/libexec/",
    "usr/local/go/",
    "usr/local/include/",
    "usr/local/lib/node_modules/",
    "usr/local/lib/python",
    "usr/local/lib/ruby/",
    "usr/share/",
    "var/cache/",
    "var/lib/apt/",
    "var/lib/dpkg/",
];

/// Names of directories, at any depth, to which the same applies.
const FOREIGN_NAMES: [&str; 18] = [
    "__tests__",
    "dist-packages",
    "doc",
    "docs",
    "example",
    "examples",
    "fixtures",
    "gems",
    "node_modules",
    "sample",
    "samples",
    "site-packages",
    "spec",
    "test",
    "testdata",
    "testing",
    "tests",
    "vendor",
];

/// Endings of documentation, and of programs' translations.
const DOCUMENTS: [&str; 7] = [".adoc", ".html", ".md", ".po", ".pot", ".rst", ".svg"];

/// The last part of a path.
pub(super) fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn folder(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// Whether secrets are searched for in a file with this path: it is not part of documentation, of tests, of the system,
/// or of a package of a programming language.
pub(super) fn is_searched(path: &str) -> bool {
    let is_foreign = FOREIGN_FOLDERS.iter().any(|foreign| path.starts_with(foreign))
        || path.contains("/pkg/mod/")
        || folder(path).split('/').any(|part| FOREIGN_NAMES.contains(&part));
    !is_foreign && !DOCUMENTS.iter().any(|ending| path.ends_with(ending))
}

/// Whether the name is that of a file that contains one private key.
pub(super) fn is_key_name(path: &str) -> bool {
    let name = file_name(path);
    let is_ssh = matches!(name, "id_dsa" | "id_ecdsa" | "id_ecdsa_sk" | "id_ed25519" | "id_ed25519_sk" | "id_rsa");
    is_ssh || (name.starts_with("ssh_host_") && name.ends_with("_key"))
}

/// The format of a file, if its path decides it.
pub(super) fn known_file(path: &str) -> Option<KnownFile> {
    let (folder, name) = (folder(path), file_name(path));
    let is_in = |parent: &str| folder == parent || folder.ends_with(&format!("/{parent}"));
    match (folder, name) {
        ("etc", "passwd") => return Some(KnownFile::Passwd),
        ("etc", "shadow") => return Some(KnownFile::Shadow),
        ("etc/ssh", "sshd_config") => return Some(KnownFile::SshdConfig),
        ("etc/ssh/sshd_config.d", name) if name.ends_with(".conf") => return Some(KnownFile::SshdConfig),
        _ => {}
    }
    if is_key_name(path) {
        return Some(KnownFile::PrivateKey);
    }
    if let Some(server) = server_file(path) {
        return Some(server);
    }
    let known = match name {
        "authorized_keys" | "authorized_keys2" if is_in(".ssh") || folder.starts_with("etc/ssh") => {
            KnownFile::AuthorizedKeys
        }
        "credentials" | "config" if is_in(".aws") => KnownFile::AwsCredentials,
        "config.json" if is_in(".docker") => KnownFile::DockerConfig,
        ".dockercfg" | ".dockerconfigjson" => KnownFile::DockerConfig,
        "auth.json" if is_in("containers") => KnownFile::DockerConfig,
        "application_default_credentials.json" => KnownFile::GcpCredentials,
        ".git-credentials" => KnownFile::GitCredentials,
        "config" if is_in(".kube") => KnownFile::Kubeconfig,
        "kubeconfig" | ".kubeconfig" => KnownFile::Kubeconfig,
        "admin.conf" | "controller-manager.conf" | "kubelet.conf" | "scheduler.conf" | "super-admin.conf"
            if folder == "etc/kubernetes" =>
        {
            KnownFile::Kubeconfig
        }
        ".netrc" | "_netrc" => KnownFile::Netrc,
        ".npmrc" | ".yarnrc.yml" => KnownFile::Npmrc,
        ".pgpass" => KnownFile::Pgpass,
        ".pypirc" => KnownFile::Pypirc,
        name if is_env_file(name) => KnownFile::EnvFile,
        name if name.ends_with(".kubeconfig") => KnownFile::Kubeconfig,
        _ => return None,
    };
    // An example in documentation or a test is not a secret.
    let is_foreign = folder.split('/').any(|part| FOREIGN_NAMES.contains(&part)) || folder.starts_with("usr/share/doc");
    (!is_foreign).then_some(known)
}

/// `.env` and `.env.production`, but not `.env.example`.
fn is_env_file(name: &str) -> bool {
    let is_template =
        ["default", "dist", "example", "sample", "template", "tmpl"].iter().any(|word| name.contains(word));
    (name == ".env" || name.starts_with(".env.") || name.ends_with(".env")) && !is_template
}

/// A configuration file of MySQL, NGINX or Apache.
fn server_file(path: &str) -> Option<KnownFile> {
    let (folder, name) = (folder(path), file_name(path));
    let is_below = |words: &[&str]| folder.split('/').any(|part| words.contains(&part));
    // Examples that the programs do not read.
    if is_below(&["doc", "docs", "examples", "extra", "original", "tests"]) || folder.starts_with("usr/share") {
        return None;
    }
    match name {
        "my.cnf" | ".my.cnf" | "my.ini" => Some(KnownFile::Mysql),
        "nginx.conf" => Some(KnownFile::Nginx),
        "apache2.conf" | "httpd.conf" => Some(KnownFile::Apache),
        name if name.ends_with(".cnf") && is_below(&["mysql", "mariadb", "my.cnf.d"]) => Some(KnownFile::Mysql),
        // Debian's links in sites-enabled have no ending.
        name if is_below(&["nginx"])
            && (name.ends_with(".conf") || is_below(&["sites-available", "sites-enabled"])) =>
        {
            Some(KnownFile::Nginx)
        }
        name if is_below(&["apache2", "httpd"]) && name.ends_with(".conf") => Some(KnownFile::Apache),
        _ => None,
    }
}

/// The directory of enabled files whose links lead to a directory of available ones: `etc/nginx/sites-enabled`.
pub(super) fn is_enabled_folder(path: &str) -> bool {
    matches!(file_name(folder(path)), "conf-enabled" | "mods-enabled" | "sites-enabled")
}

/// Whether the file counts only if a link enables it.
pub(super) fn must_be_enabled(path: &str) -> bool {
    matches!(file_name(folder(path)), "conf-available" | "mods-available" | "sites-available")
}

/// Whether anyone who can write the file can change what others run: programs, libraries, and configuration.
pub(super) fn is_system_file(path: &str, mode: u32) -> bool {
    let is_program = mode & 0o111 != 0 || path.ends_with(".so") || path.contains(".so.");
    let in_system =
        ["bin/", "lib/", "lib32/", "lib64/", "opt/", "sbin/", "usr/"].iter().any(|top| path.starts_with(top));
    path.starts_with("etc/") || (in_system && is_program)
}
