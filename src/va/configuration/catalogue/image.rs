//! The texts of checks of the image itself: its accounts, the rights of its files, and its configuration.

use super::{CheckText, text};
use crate::hardening::HardeningCheck as Check;
use crate::policy::Severity;

/// Accounts.
pub(super) const ACCOUNTS: &[CheckText] = &[text(
    Check::AccountsEmptyPassword,
    "accounts.empty_password",
    Severity::High,
    "No account in /etc/passwd or /etc/shadow has an empty password.",
    "Lock the account with `passwd -l NAME`, or remove it.",
)];

/// Files.
pub(super) const FILES: &[CheckText] = &[
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
        "Programs, libraries and files in /etc are not writable by every account.",
        "Remove the permission with `chmod o-w FILE`.",
    ),
];

/// The configuration of the image.
pub(super) const IMAGE: &[CheckText] = &[
    text(
        Check::ImageCommandSecret,
        "image.command_secret",
        Severity::High,
        "The command of the image (Entrypoint, Cmd) contains no secrets.",
        "Pass the secret when the container starts, and replace the exposed one.",
    ),
    text(
        Check::ImageEnvSecret,
        "image.env_secret",
        Severity::High,
        "The environment variables of the image (Env) contain no secrets.",
        "Pass the secret when the container starts, and replace the exposed one.",
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
        "Pass the secret with `RUN --mount=type=secret` instead of ARG or ENV, and replace the exposed secret.",
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
        "All clients interpret the configuration of the image in the same way.",
        "Build the image again with a current tool.",
    ),
    text(
        Check::ImageUser,
        "image.user",
        Severity::Medium,
        "The image does not run as root.",
        "Add an account, and name it in a USER instruction.",
    ),
];
