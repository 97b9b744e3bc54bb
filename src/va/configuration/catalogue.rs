//! The texts of all checks.

use crate::hardening::HardeningCheck;
use crate::policy::Severity;

/// What people read about a check.
#[derive(Clone, Copy, Debug)]
pub(in crate::va) struct CheckText {
    /// The check.
    pub(in crate::va) check: HardeningCheck,
    /// The identifier without its common beginning: `ssh.private_key`.
    pub(in crate::va) name: &'static str,
    /// The severity.
    pub(in crate::va) severity: Severity,
    /// What should be so: IBM's "security practice".
    pub(in crate::va) practice: &'static str,
    /// How to resolve the issue.
    pub(in crate::va) action: &'static str,
}

impl CheckText {
    /// The identifier that reports show and exemptions name. IBM's own identifiers have this form, and checks that IBM has
    /// too have the same ones.
    pub(in crate::va) fn id(&self) -> String {
        format!("application_configuration:{}", self.name)
    }
}

/// What to do about a secret.
const REPLACE: &str = "Remove the secret from the image, and replace it where it is valid: it was in an image.";

const fn text(
    check: HardeningCheck,
    name: &'static str,
    severity: Severity,
    practice: &'static str,
    action: &'static str,
) -> CheckText {
    CheckText { check, name, severity, practice, action }
}

/// All checks, by identifier. `docs/configuration-issues.md` lists them.
pub(in crate::va) const CATALOGUE: [CheckText; 59] = {
    use HardeningCheck as Check;
    [
        text(
            Check::AccountsEmptyPassword,
            "accounts.empty_password",
            Severity::High,
            "No account in /etc/passwd or /etc/shadow has an empty password.",
            "Lock the account with `passwd -l NAME`, or remove it.",
        ),
        text(
            Check::ApacheOptionsIndexes,
            "apache.Options",
            Severity::Low,
            "Apache does not list the files of folders (Options Indexes).",
            "Remove Indexes, or write Options -Indexes.",
        ),
        text(
            Check::ApacheServerSignature,
            "apache.ServerSignature",
            Severity::Low,
            "Apache does not put its version into pages (ServerSignature).",
            "Set ServerSignature Off.",
        ),
        text(
            Check::ApacheServerTokens,
            "apache.ServerTokens",
            Severity::Low,
            "Apache does not send its version to clients (ServerTokens).",
            "Set ServerTokens Prod.",
        ),
        text(
            Check::ApacheSslCipherSuite,
            "apache.SSLCipherSuite",
            Severity::Medium,
            "Apache offers no weak cipher suites (SSLCipherSuite).",
            "Remove suites with NULL, EXPORT, RC4, DES, 3DES or MD5, or without authentication.",
        ),
        text(
            Check::ApacheSslProtocol,
            "apache.SSLProtocol",
            Severity::Medium,
            "Apache offers TLS 1.2 and later only (SSLProtocol).",
            "Set SSLProtocol -all +TLSv1.2 +TLSv1.3.",
        ),
        text(
            Check::ApacheTraceEnable,
            "apache.TraceEnable",
            Severity::Low,
            "Apache does not answer TRACE requests (TraceEnable).",
            "Set TraceEnable Off.",
        ),
        text(
            Check::ApacheUser,
            "apache.User",
            Severity::Medium,
            "Apache does not serve requests as root (User, Group).",
            "Set User and Group to an account without other rights.",
        ),
        text(
            Check::FilesSetuid,
            "files.setuid",
            Severity::Medium,
            "Only programs of the distribution's packages have the set-user-ID or set-group-ID bit.",
            "Remove the bit with `chmod u-s,g-s FILE`, or install the program from a package of the distribution.",
        ),
        text(
            Check::FilesUnchecked,
            "files.unchecked",
            Severity::Medium,
            "All files that can hold unsafe settings or secrets can be checked.",
            "Make the file smaller, or remove it from the image.",
        ),
        text(
            Check::FilesWorldWritable,
            "files.world_writable",
            Severity::Medium,
            "Programs, libraries and files in /etc cannot be changed by every account.",
            "Remove the right with `chmod o-w FILE`.",
        ),
        text(
            Check::ImageCommandSecret,
            "image.command_secret",
            Severity::High,
            "The command of the image (Entrypoint, Cmd) contains no secrets.",
            "Pass the secret when the container starts, and replace it where it is valid.",
        ),
        text(
            Check::ImageEnvSecret,
            "image.env_secret",
            Severity::High,
            "The environment variables of the image (Env) contain no secrets.",
            "Pass the secret when the container starts, and replace it where it is valid.",
        ),
        text(
            Check::ImageExposedPort,
            "image.exposed_port",
            Severity::Low,
            "The image exposes no ports for remote administration.",
            "Remove the EXPOSE instruction and the service.",
        ),
        text(
            Check::ImageHistorySecret,
            "image.history_secret",
            Severity::High,
            "The steps that built the image contain no secrets.",
            "Pass the secret with `RUN --mount=type=secret` instead of ARG or ENV, and replace it where it is valid.",
        ),
        text(
            Check::ImageSshServer,
            "image.ssh_server",
            Severity::Low,
            "The image does not run an SSH server.",
            "Use the container engine to enter the container (`kubectl exec`).",
        ),
        text(
            Check::ImageUnreadable,
            "image.unreadable",
            Severity::High,
            "The configuration of the image means the same to all clients.",
            "Build the image again with a current tool.",
        ),
        text(
            Check::ImageUser,
            "image.user",
            Severity::Medium,
            "The image does not run as root.",
            "Add an account, and name it in a USER instruction.",
        ),
        text(
            Check::MysqlAllowSuspiciousUdfs,
            "mysql.allow-suspicious-udfs",
            Severity::Medium,
            "MySQL loads no libraries but those with functions for it (allow-suspicious-udfs).",
            "Remove allow-suspicious-udfs.",
        ),
        text(
            Check::MysqlLocalInfile,
            "mysql.local-infile",
            Severity::Medium,
            "MySQL does not read files of its clients (local-infile).",
            "Set local-infile=0.",
        ),
        text(
            Check::MysqlLogError,
            "mysql.log_error",
            Severity::Negligible,
            "A setting that specifies where MySQL writes errors (log_error).",
            "Specify log_error in the group [mysqld].",
        ),
        text(
            Check::MysqlOldPasswords,
            "mysql.old_passwords",
            Severity::Medium,
            "MySQL does not use the weak hashes of old versions (old_passwords).",
            "Remove old_passwords, or set it to 0.",
        ),
        text(
            Check::MysqlPassword,
            "mysql.password",
            Severity::High,
            "Option files of MySQL contain no passwords.",
            "Remove the password, and pass it when the container starts.",
        ),
        text(
            Check::MysqlSecureFilePriv,
            "mysql.secure_file_priv",
            Severity::Medium,
            "MySQL reads and writes files in one folder only (secure_file_priv).",
            "Set secure_file_priv to a folder, or to NULL.",
        ),
        text(
            Check::MysqlSkipGrantTables,
            "mysql.skip-grant-tables",
            Severity::Critical,
            "MySQL asks for passwords (skip-grant-tables).",
            "Remove skip-grant-tables.",
        ),
        text(
            Check::MysqlSkipShowDatabase,
            "mysql.skip-show-database",
            Severity::Negligible,
            "A setting that hides the names of databases from accounts without rights (skip-show-database).",
            "Specify skip-show-database in the group [mysqld].",
        ),
        text(
            Check::MysqlSslCa,
            "mysql.ssl-ca",
            Severity::Low,
            "A setting that specifies the Certificate Authority (CA) certificate (ssl-ca).",
            "Specify ssl-ca in the group [mysqld].",
        ),
        text(
            Check::MysqlSslCert,
            "mysql.ssl-cert",
            Severity::Low,
            "A setting that specifies the server public key certificate (ssl-cert).",
            "Specify ssl-cert in the group [mysqld].",
        ),
        text(
            Check::MysqlSslKey,
            "mysql.ssl-key",
            Severity::Low,
            "A setting that identifies the server private key (ssl-key).",
            "Specify ssl-key in the group [mysqld].",
        ),
        text(Check::MysqlUser, "mysql.user", Severity::Medium, "MySQL does not run as root (user).", "Set user=mysql."),
        text(
            Check::NginxAddHeader,
            "nginx.add_header",
            Severity::Negligible,
            "NGINX with TLS tells browsers to use TLS only (add_header Strict-Transport-Security).",
            "Add `add_header Strict-Transport-Security \"max-age=31536000\" always;`.",
        ),
        text(
            Check::NginxAutoindex,
            "nginx.autoindex",
            Severity::Low,
            "NGINX does not list the files of folders (autoindex).",
            "Set autoindex off.",
        ),
        text(
            Check::NginxServerTokens,
            "nginx.server_tokens",
            Severity::Low,
            "NGINX does not send its version to clients (server_tokens).",
            "Set server_tokens off.",
        ),
        text(
            Check::NginxSslCiphers,
            "nginx.ssl_ciphers",
            Severity::Medium,
            "NGINX offers no weak cipher suites (ssl_ciphers).",
            "Remove suites with NULL, EXPORT, RC4, DES, 3DES or MD5, or without authentication.",
        ),
        text(
            Check::NginxSslProtocols,
            "nginx.ssl_protocols",
            Severity::Medium,
            "NGINX offers TLS 1.2 and later only (ssl_protocols).",
            "Set ssl_protocols TLSv1.2 TLSv1.3.",
        ),
        text(
            Check::NginxUser,
            "nginx.user",
            Severity::Medium,
            "NGINX does not serve requests as root (user).",
            "Set user to an account without other rights.",
        ),
        text(Check::SecretAws, "secret.aws", Severity::High, "No file contains an access key of AWS.", REPLACE),
        text(
            Check::SecretAzureStorage,
            "secret.azure_storage",
            Severity::High,
            "No file contains a key of Azure Storage.",
            REPLACE,
        ),
        text(
            Check::SecretDeletedFile,
            "secret.deleted_file",
            Severity::High,
            "No layer contains a secret, not even in a file that a later layer deletes: everybody can read each layer.",
            "Build the image so that the file is never copied into a layer, and replace the secret where it is valid.",
        ),
        text(
            Check::SecretDockerConfig,
            "secret.docker_config",
            Severity::High,
            "No file contains credentials for a registry.",
            REPLACE,
        ),
        text(Check::SecretEnvFile, "secret.env_file", Severity::Medium, "No .env file contains a secret.", REPLACE),
        text(
            Check::SecretGcp,
            "secret.gcp",
            Severity::High,
            "No file contains a key of a service account, or a refresh token, of Google Cloud.",
            REPLACE,
        ),
        text(
            Check::SecretGitCredentials,
            "secret.git_credentials",
            Severity::High,
            "No file contains a password for a Git repository.",
            REPLACE,
        ),
        text(Check::SecretGithub, "secret.github", Severity::High, "No file contains a token of GitHub.", REPLACE),
        text(Check::SecretGitlab, "secret.gitlab", Severity::High, "No file contains a token of GitLab.", REPLACE),
        text(
            Check::SecretKubeconfig,
            "secret.kubeconfig",
            Severity::High,
            "No file contains credentials for a Kubernetes cluster.",
            REPLACE,
        ),
        text(Check::SecretNetrc, "secret.netrc", Severity::High, "No .netrc file contains a password.", REPLACE),
        text(Check::SecretNpm, "secret.npm", Severity::High, "No file contains a token of an npm registry.", REPLACE),
        text(
            Check::SecretPgpass,
            "secret.pgpass",
            Severity::High,
            "No .pgpass file contains a password of PostgreSQL.",
            REPLACE,
        ),
        text(
            Check::SecretPrivateKey,
            "secret.private_key",
            Severity::High,
            "No file contains a private key (PEM, OpenPGP).",
            REPLACE,
        ),
        text(
            Check::SecretPypi,
            "secret.pypi",
            Severity::High,
            "No file contains a token or password of a Python package index.",
            REPLACE,
        ),
        text(
            Check::SecretSlack,
            "secret.slack",
            Severity::High,
            "No file contains a token or webhook of Slack.",
            REPLACE,
        ),
        text(Check::SecretStripe, "secret.stripe", Severity::High, "No file contains a live key of Stripe.", REPLACE),
        text(
            Check::SecretVault,
            "secret.vault",
            Severity::High,
            "No file contains a token of HashiCorp Vault.",
            REPLACE,
        ),
        text(
            Check::SshAuthorizedKeys,
            "ssh.authorized_keys",
            Severity::Medium,
            "No key may log in by SSH (authorized_keys).",
            "Remove the file, and mount it when the container starts.",
        ),
        text(
            Check::SshHostKey,
            "ssh.host_key",
            Severity::High,
            "The image contains no SSH host key: all containers would share it.",
            "Remove the key, and create one when the container starts (`ssh-keygen -A`).",
        ),
        text(
            Check::SshPermitEmptyPasswords,
            "ssh.permit_empty_passwords",
            Severity::High,
            "The SSH server admits no empty passwords (PermitEmptyPasswords).",
            "Set PermitEmptyPasswords no.",
        ),
        text(
            Check::SshPermitRootLogin,
            "ssh.permit_root_login",
            Severity::Medium,
            "The SSH server does not admit root with a password (PermitRootLogin).",
            "Set PermitRootLogin no or prohibit-password.",
        ),
        text(
            Check::SshPrivateKey,
            "ssh.private_key",
            Severity::High,
            "No file contains a private key for SSH.",
            REPLACE,
        ),
    ]
};
