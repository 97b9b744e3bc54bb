//! The texts of checks of programs' configurations.

use super::{CheckText, REPLACE, text};
use crate::hardening::HardeningCheck as Check;
use crate::policy::Severity;

/// Apache HTTP Server.
pub(super) const APACHE: &[CheckText] = &[
    text(
        Check::ApacheOptionsIndexes,
        "apache.Options",
        Severity::Low,
        "Apache does not list directories (Options Indexes).",
        "Remove Indexes, or write Options -Indexes.",
    ),
    text(
        Check::ApacheServerSignature,
        "apache.ServerSignature",
        Severity::Low,
        "Apache does not show its version in pages (ServerSignature).",
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
];

/// MySQL and MariaDB.
pub(super) const MYSQL: &[CheckText] = &[
    text(
        Check::MysqlAllowSuspiciousUdfs,
        "mysql.allow-suspicious-udfs",
        Severity::Medium,
        "MySQL loads only libraries that are made for it (allow-suspicious-udfs).",
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
        "MySQL reads and writes files in one directory only (secure_file_priv).",
        "Set secure_file_priv to a directory, or to NULL.",
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
];

/// NGINX.
pub(super) const NGINX: &[CheckText] = &[
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
        "NGINX does not list directories (autoindex).",
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
];

/// OpenSSH, its keys included.
pub(super) const SSH: &[CheckText] = &[
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
    text(Check::SshPrivateKey, "ssh.private_key", Severity::High, "No file contains a private key for SSH.", REPLACE),
];
