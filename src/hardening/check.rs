//! What is checked.

use serde::{Deserialize, Serialize};

/// One check. What it is about, its identifier for people, and what to do is in `va::configuration`.
///
/// The names are stored with the readings of layers: a name that was released keeps its meaning.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
#[allow(clippy::missing_docs_in_private_items, reason = "va::configuration describes each check for people")]
pub enum HardeningCheck {
    AccountsEmptyPassword,
    ApacheOptionsIndexes,
    ApacheServerSignature,
    ApacheServerTokens,
    ApacheSslCipherSuite,
    ApacheSslProtocol,
    ApacheTraceEnable,
    ApacheUser,
    FilesSetuid,
    FilesUnchecked,
    FilesWorldWritable,
    ImageCommandSecret,
    ImageEnvSecret,
    ImageExposedPort,
    ImageHistorySecret,
    ImageSshServer,
    ImageUnreadable,
    ImageUser,
    MysqlAllowSuspiciousUdfs,
    MysqlLocalInfile,
    MysqlLogError,
    MysqlOldPasswords,
    MysqlPassword,
    MysqlSecureFilePriv,
    MysqlSkipGrantTables,
    MysqlSkipShowDatabase,
    MysqlSslCa,
    MysqlSslCert,
    MysqlSslKey,
    MysqlUser,
    NginxAddHeader,
    NginxAutoindex,
    NginxServerTokens,
    NginxSslCiphers,
    NginxSslProtocols,
    NginxUser,
    SecretAws,
    SecretAzureStorage,
    SecretDeletedFile,
    SecretDockerConfig,
    SecretEnvFile,
    SecretGcp,
    SecretGitCredentials,
    SecretGithub,
    SecretGitlab,
    SecretKubeconfig,
    SecretNetrc,
    SecretNpm,
    SecretPgpass,
    SecretPrivateKey,
    SecretPypi,
    SecretSlack,
    SecretStripe,
    SecretVault,
    SshAuthorizedKeys,
    SshHostKey,
    SshPermitEmptyPasswords,
    SshPermitRootLogin,
    SshPrivateKey,
}

impl HardeningCheck {
    /// Whether it finds secrets.
    pub(super) fn is_secret(self) -> bool {
        matches!(
            self,
            Self::MysqlPassword
                | Self::SecretAws
                | Self::SecretAzureStorage
                | Self::SecretDeletedFile
                | Self::SecretDockerConfig
                | Self::SecretEnvFile
                | Self::SecretGcp
                | Self::SecretGitCredentials
                | Self::SecretGithub
                | Self::SecretGitlab
                | Self::SecretKubeconfig
                | Self::SecretNetrc
                | Self::SecretNpm
                | Self::SecretPgpass
                | Self::SecretPrivateKey
                | Self::SecretPypi
                | Self::SecretSlack
                | Self::SecretStripe
                | Self::SecretVault
                | Self::SshHostKey
                | Self::SshPrivateKey
        )
    }

    /// Whether a file of a package of the distribution is not unsafe in this respect.
    pub(super) fn may_be_packaged(self) -> bool {
        self.is_secret() || matches!(self, Self::FilesSetuid | Self::FilesWorldWritable)
    }
}
