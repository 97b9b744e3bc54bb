//! Finds secrets by patterns that their issuers chose for this purpose, so that few other texts match.

use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, MatchKind};

use super::{FileObservation, HardeningCheck, MAX_OBSERVATIONS, fingerprint, private_key};

/// A secret that begins with a fixed text.
struct SecretPattern {
    check: HardeningCheck,
    /// For people: `GitHub token`.
    name: &'static str,
    prefix: &'static str,
    /// Which bytes may follow the prefix.
    is_part: fn(u8) -> bool,
    /// How many of them there are, at least and at most.
    length: (usize, usize),
}

const fn pattern(
    check: HardeningCheck,
    name: &'static str,
    prefix: &'static str,
    is_part: fn(u8) -> bool,
    length: (usize, usize),
) -> SecretPattern {
    SecretPattern { check, name, prefix, is_part, length }
}

const ANY: usize = 1024;
/// A key that only the name of the setting before it distinguishes from other text.
const AWS_SECRET: &str = "AWS secret access key";
/// What may be between the name of a setting and its value, as in `NAME="VALUE"` and `"name": "value"`.
const ASSIGNING: &[u8] = b" \t\"':=]),";

static PATTERNS: [SecretPattern; 33] = {
    use HardeningCheck as Check;
    [
        pattern(Check::SecretAws, "AWS access key", "AKIA", is_upper, (16, 16)),
        pattern(Check::SecretAws, "AWS access key", "ASIA", is_upper, (16, 16)),
        pattern(Check::SecretAws, "AWS access key", "ABIA", is_upper, (16, 16)),
        pattern(Check::SecretAws, "AWS access key", "ACCA", is_upper, (16, 16)),
        pattern(Check::SecretAws, AWS_SECRET, "AWS_SECRET_ACCESS_KEY", is_base64, (40, 40)),
        pattern(Check::SecretAws, AWS_SECRET, "aws_secret_access_key", is_base64, (40, 40)),
        pattern(Check::SecretAzureStorage, "Azure storage key", "AccountKey=", is_base64, (86, 88)),
        pattern(Check::SecretDockerConfig, "Docker Hub token", "dckr_pat_", is_token, (20, ANY)),
        pattern(Check::SecretGithub, "GitHub token", "ghp_", is_alphanumeric, (36, 255)),
        pattern(Check::SecretGithub, "GitHub token", "gho_", is_alphanumeric, (36, 255)),
        pattern(Check::SecretGithub, "GitHub token", "ghu_", is_alphanumeric, (36, 255)),
        pattern(Check::SecretGithub, "GitHub token", "ghs_", is_alphanumeric, (36, 255)),
        pattern(Check::SecretGithub, "GitHub token", "ghr_", is_alphanumeric, (36, 255)),
        pattern(Check::SecretGithub, "GitHub token", "github_pat_", is_token, (50, 255)),
        pattern(Check::SecretGitlab, "GitLab token", "glpat-", is_token, (20, ANY)),
        pattern(Check::SecretGitlab, "GitLab deploy token", "gldt-", is_token, (20, ANY)),
        pattern(Check::SecretGitlab, "GitLab runner token", "glrt-", is_token, (20, ANY)),
        pattern(Check::SecretGitlab, "GitLab trigger token", "glptt-", is_token, (20, ANY)),
        pattern(Check::SecretNpm, "npm token", "npm_", is_alphanumeric, (36, 36)),
        pattern(Check::SecretPypi, "PyPI token", "pypi-AgEIcHlwaS5vcmc", is_token, (50, ANY)),
        pattern(Check::SecretSlack, "Slack token", "xoxa-", is_token, (12, ANY)),
        pattern(Check::SecretSlack, "Slack token", "xoxb-", is_token, (12, ANY)),
        pattern(Check::SecretSlack, "Slack token", "xoxp-", is_token, (12, ANY)),
        pattern(Check::SecretSlack, "Slack token", "xoxr-", is_token, (12, ANY)),
        pattern(Check::SecretSlack, "Slack token", "xoxs-", is_token, (12, ANY)),
        pattern(Check::SecretSlack, "Slack token", "xapp-", is_token, (20, ANY)),
        pattern(Check::SecretSlack, "Slack webhook", "hooks.slack.com/services/", is_path, (30, 100)),
        pattern(Check::SecretStripe, "Stripe key", "sk_live_", is_alphanumeric, (10, 255)),
        pattern(Check::SecretStripe, "Stripe key", "rk_live_", is_alphanumeric, (10, 255)),
        pattern(Check::SecretVault, "Vault token", "hvs.", is_token, (24, ANY)),
        pattern(Check::SecretVault, "Vault batch token", "hvb.", is_token, (24, ANY)),
        pattern(Check::SecretPrivateKey, "private key", private_key::BEGIN, is_token, (0, 0)),
        pattern(Check::SecretPrivateKey, "PuTTY private key", private_key::PUTTY, is_token, (0, 0)),
    ]
};

/// Leftmost matches, because only these are searched for with vector instructions, which is four to ten times as fast.
/// No prefix begins with another, so the kind of match makes no other difference.
static PREFIXES: LazyLock<Option<AhoCorasick>> = LazyLock::new(|| {
    let prefixes = PATTERNS.iter().map(|pattern| pattern.prefix);
    AhoCorasick::builder().match_kind(MatchKind::LeftmostFirst).build(prefixes).ok()
});

fn is_alphanumeric(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
}

fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"+/=".contains(&byte)
}

fn is_path(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'/'
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_".contains(&byte)
}

fn is_upper(byte: u8) -> bool {
    byte.is_ascii_uppercase() || byte.is_ascii_digit()
}

/// The secrets in a file or in another text. `path` is that of the file; empty for another text.
pub(super) fn search(path: &str, content: &[u8]) -> Vec<FileObservation> {
    let mut found = Vec::new();
    let Some(prefixes) = &*PREFIXES else {
        return vec![FileObservation::unsafe_file(HardeningCheck::FilesUnchecked, "secrets cannot be searched for")];
    };
    let (mut line, mut counted) = (1, 0);
    for hit in prefixes.find_iter(content) {
        let Some(pattern) = PATTERNS.get(hit.pattern().as_usize()) else { continue };
        let secret = match pattern.check {
            HardeningCheck::SecretPrivateKey => private_key::at(path, content, hit.start()),
            check => token(pattern, content, hit.start()).map(|detail| (check, detail)),
        };
        let Some((check, detail)) = secret else { continue };
        line += content[counted..hit.start()].iter().filter(|byte| **byte == b'\n').count();
        counted = hit.start();
        found.push(FileObservation::unsafe_line(check, line, detail));
        if found.len() == MAX_OBSERVATIONS {
            break;
        }
    }
    found
}

/// Describes the secret at `start`, if it is one.
fn token(pattern: &SecretPattern, content: &[u8], start: usize) -> Option<String> {
    let is_inside_word = start.checked_sub(1).is_some_and(|before| is_token(content[before]));
    let end = start + pattern.prefix.len();
    let assigning = content.get(end..)?.iter().take_while(|byte| ASSIGNING.contains(byte)).count();
    let begin = match (pattern.name == AWS_SECRET, assigning) {
        (true, 0) => return None,
        (true, _) => end + assigning,
        (false, _) => end,
    };
    let rest = content.get(begin..)?;
    let (least, most) = pattern.length;
    let length = rest.iter().take(most + 1).take_while(|byte| (pattern.is_part)(**byte)).count();
    let goes_on = rest.get(length).is_some_and(|byte| is_alphanumeric(*byte));
    let body = &rest[..length.min(most)];
    // The name of an assignment may touch the prefix.
    if (is_inside_word && pattern.prefix.len() < 6) || length < least || length > most || goes_on || is_example(body) {
        return None;
    }
    let secret = &content[start..begin + length];
    Some(format!("{} ({})", pattern.name, fingerprint(secret)))
}

/// Whether this is a text from documentation: `AKIAIOSFODNN7EXAMPLE`.
fn is_example(body: &[u8]) -> bool {
    let is_repeated = body.iter().all(|byte| body.first() == Some(byte) && matches!(byte, b'x' | b'X' | b'0' | b'-'));
    let lower = body.to_ascii_lowercase();
    let contains = |part: &[u8]| lower.windows(part.len()).any(|window| window == part);
    is_repeated || contains(b"example") || contains(b"xxxxxx")
}
