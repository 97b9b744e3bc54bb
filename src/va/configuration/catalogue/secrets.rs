//! The texts of checks for secrets in files.

use super::{CheckText, REPLACE, text};
use crate::hardening::HardeningCheck as Check;
use crate::policy::Severity;

/// Secrets in files.
pub(super) const SECRETS: &[CheckText] = &[
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
        "No layer contains a secret, not even in a file that a later layer deletes: anyone can read each layer.",
        "Build the image so that the file is never copied into a layer, and replace the exposed secret.",
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
    text(Check::SecretSlack, "secret.slack", Severity::High, "No file contains a token or webhook of Slack.", REPLACE),
    text(Check::SecretStripe, "secret.stripe", Severity::High, "No file contains a live key of Stripe.", REPLACE),
    text(Check::SecretVault, "secret.vault", Severity::High, "No file contains a token of HashiCorp Vault.", REPLACE),
];
