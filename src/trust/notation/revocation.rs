//! Whether certificates are revoked: by revocation lists in files, by OCSP (RFC 6960), and by published lists (RFC
//! 5280; trust-store-trust-policy.md, "Certificate Revocation Evaluation").
//!
//! A file answers without any request. Everything else is requested from the URLs in the certificates, which are
//! trusted by then: over plain HTTP, because answers are signed, never at private addresses unless the configuration
//! names the host, and bounded in bytes and time. A status that cannot be determined is unknown, never "not revoked".

mod fetch;
mod ocsp;

use futures_util::future::join_all;
use jiff::Timestamp;
use x509_cert::ext::pkix::CrlReason;

use super::assess::earliest;
use crate::policy::RevocationFile;
use crate::runtime::{Clock, Tasks};
use crate::x509::{RevocationList, RevokedCertificate, X509Certificate};
pub use fetch::{InvalidRevocationConfig, RevocationConfig};
use fetch::{RevocationAnswer, RevocationFetcher};

/// The maximum number of URLs of one certificate that are queried.
const MAX_URLS: usize = 4;

/// What is known about the revocation of a chain.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum ChainStatus {
    /// No certificate is revoked.
    Good {
        /// The end of the answers; `None` if nothing was asked.
        until: Option<Timestamp>,
    },
    /// A certificate is revoked.
    Revoked(String),
    /// It could not be found out.
    Unknown {
        /// Why.
        why: String,
        /// Whether another attempt may help.
        temporary: bool,
    },
}

/// Finds out whether certificates are revoked. Cheap to clone.
#[derive(Clone)]
pub struct RevocationChecker {
    /// `None` if no request may be sent.
    fetcher: Option<RevocationFetcher>,
    clock: Clock,
}

impl RevocationChecker {
    /// A checker that asks as configured.
    ///
    /// # Errors
    /// If the HTTP client cannot be made as configured.
    pub fn new(config: &RevocationConfig, clock: Clock, tasks: &Tasks) -> Result<Self, InvalidRevocationConfig> {
        let fetcher = match config.online {
            true => Some(RevocationFetcher::new(config, clock.clone(), tasks)?),
            false => None,
        };
        Ok(Self { fetcher, clock })
    }

    /// The status of a chain that ends with a root. A root cannot be revoked by itself.
    pub(super) async fn status(
        &self,
        chain: &[X509Certificate],
        files: &[RevocationFile],
        signed_at: Option<Timestamp>,
    ) -> ChainStatus {
        let links = chain.windows(2).map(|link| self.link_status(&link[0], &link[1], files, signed_at));
        let (mut until, mut unknown) = (None, None);
        for status in join_all(links).await {
            match status {
                ChainStatus::Good { until: end } => until = earliest(until, end),
                ChainStatus::Revoked(_) => return status,
                ChainStatus::Unknown { .. } => unknown = Some(status),
            }
        }
        unknown.unwrap_or(ChainStatus::Good { until })
    }

    async fn link_status(
        &self,
        certificate: &X509Certificate,
        issuer: &X509Certificate,
        files: &[RevocationFile],
        signed_at: Option<Timestamp>,
    ) -> ChainStatus {
        let subject = RevocationSubject { certificate, issuer, signed_at, now: self.clock.now() };
        let outdated = match subject.by_files(files) {
            Ok(Some(status)) => return status,
            Ok(None) => None,
            Err(outdated) => Some(outdated),
        };
        if !certificate.usage().is_revocable() {
            return match outdated {
                None => ChainStatus::Good { until: None },
                Some(why) => ChainStatus::Unknown { why, temporary: false },
            };
        }
        let status = match &self.fetcher {
            Some(fetcher) => fetcher.status(&subject).await,
            None => ChainStatus::Unknown { why: subject.offline(), temporary: false },
        };
        match (status, outdated) {
            (ChainStatus::Unknown { why, temporary }, Some(outdated)) => {
                ChainStatus::Unknown { why: format!("{outdated}; {why}"), temporary }
            }
            (status, _) => status,
        }
    }
}

/// A certificate whose status is in question.
struct RevocationSubject<'a> {
    certificate: &'a X509Certificate,
    issuer: &'a X509Certificate,
    signed_at: Option<Timestamp>,
    now: Timestamp,
}

impl RevocationSubject<'_> {
    /// The answer of the files. `None` if they have no list of this issuer; an error if all of its lists are outdated.
    fn by_files(&self, files: &[RevocationFile]) -> Result<Option<ChainStatus>, String> {
        let is_ours =
            |file: &&RevocationFile| file.list.covers(self.certificate) && file.list.is_issued_by(self.issuer);
        let ours: Vec<_> = files.iter().filter(is_ours).collect();
        let is_current = |list: &RevocationList| self.now <= list.next_update();
        let complete = ours.iter().filter(|file| !file.list.is_delta() && is_current(&file.list));
        let Some(complete) = complete.max_by_key(|file| file.list.next_update()) else {
            return match ours.iter().max_by_key(|file| file.list.next_update()) {
                None => Ok(None),
                Some(file) => {
                    let end = file.list.next_update();
                    Err(format!("{}: the revocation list of {} expired at {end}", file.path, self.issuer))
                }
            };
        };
        let applies = |list: &&RevocationList| is_current(list) && list.applies_to(&complete.list);
        let delta = ours.iter().map(|file| &file.list).filter(applies).max_by_key(|list| list.next_update());
        Ok(Some(self.by_lists(&complete.list, delta)))
    }

    /// What a complete list says, with a list of changes to it. Both are by the issuer, and current.
    fn by_lists(&self, complete: &RevocationList, delta: Option<&RevocationList>) -> ChainStatus {
        let (before, after) = (complete.find(self.certificate), delta.and_then(|delta| delta.find(self.certificate)));
        let is_removed = |entry: &RevokedCertificate| entry.reason == Some(CrlReason::RemoveFromCRL);
        let entry = match (before, after) {
            // Only a hold can be lifted.
            (Some(before), Some(after)) if is_removed(&after) => {
                (before.reason != Some(CrlReason::CertificateHold)).then_some(before)
            }
            (before, after) => after.or(before).filter(|entry| !is_removed(entry)),
        };
        let until = delta.map_or(complete.next_update(), |delta| delta.next_update().min(complete.next_update()));
        self.of_entry(entry, until)
    }

    /// The consequence of the issuer's revocation of the certificate.
    fn of_entry(&self, entry: Option<RevokedCertificate>, until: Timestamp) -> ChainStatus {
        let is_before = |entry: &RevokedCertificate| match (self.signed_at, entry.invalid_since) {
            (Some(signed_at), Some(since)) => signed_at < since,
            _ => false,
        };
        match entry {
            Some(entry) if !is_before(&entry) => {
                let reason = entry.reason.map(|reason| format!(" ({reason:?})")).unwrap_or_default();
                ChainStatus::Revoked(format!("the certificate of {} is revoked{reason}", self.certificate))
            }
            _ => ChainStatus::Good { until: Some(until) },
        }
    }

    fn offline(&self) -> String {
        format!(
            "{}: online checks are off ([trust.revocation] online = false), and no file of revocationLists is by its \
             issuer; add one, or skip revocation in the trust policy",
            self.certificate
        )
    }
}

impl RevocationFetcher {
    /// By OCSP, otherwise by published lists.
    async fn status(&self, subject: &RevocationSubject<'_>) -> ChainStatus {
        let usage = subject.certificate.usage();
        let mut failures = Vec::new();
        for url in usage.ocsp_responders.iter().take(MAX_URLS) {
            match self.ocsp(url, subject.certificate, subject.issuer).await {
                RevocationAnswer::Ocsp { revoked, until } => return subject.of_entry(revoked, until),
                RevocationAnswer::List(_) => {}
                RevocationAnswer::Failed(why) => failures.push(why),
            }
        }
        match self.by_published_lists(subject, &mut failures).await {
            Some(status) => status,
            None => {
                let why = format!("{}: {}", subject.certificate, failures.join("; "));
                ChainStatus::Unknown { why, temporary: true }
            }
        }
    }

    /// All lists must say that the certificate is not revoked, because each may cover some reasons only.
    async fn by_published_lists(
        &self,
        subject: &RevocationSubject<'_>,
        failures: &mut Vec<String>,
    ) -> Option<ChainStatus> {
        let urls = &subject.certificate.usage().revocation_lists;
        if urls.len() > MAX_URLS {
            failures.push(format!("it names {} revocation lists, more than {MAX_URLS}", urls.len()));
            return None;
        }
        let mut status = None;
        for url in urls {
            match self.by_published_list(url, subject).await {
                Ok(revoked @ ChainStatus::Revoked(_)) => return Some(revoked),
                Ok(good) => status = Some(good),
                Err(why) => failures.push(why),
            }
        }
        // Lists are queried because a responder may have failed.
        status.filter(|_| failures.len() <= subject.certificate.usage().ocsp_responders.len())
    }

    async fn by_published_list(&self, url: &str, subject: &RevocationSubject<'_>) -> Result<ChainStatus, String> {
        let complete = self.list(url, subject.issuer).await?;
        if complete.is_delta() || !complete.covers(subject.certificate) {
            return Err(format!("{url}: the list does not cover this certificate"));
        }
        let Some(delta_url) = complete.delta_urls().first() else { return Ok(subject.by_lists(&complete, None)) };
        let delta = self.list(delta_url, subject.issuer).await?;
        // Nothing changed since a complete list that is as new.
        let delta = Some(&delta).filter(|delta| delta.applies_to(&complete));
        Ok(subject.by_lists(&complete, delta))
    }
}

#[cfg(test)]
mod tests;
