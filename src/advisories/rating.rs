//! Severities and scores: which of several counts.

use std::str::FromStr as _;

use cvss::Cvss;

use super::{OsvAffected, OsvDetail, OsvSeverity, TrivyCvss, TrivyDetail};
use crate::policy::{CvssScore, Severity};

/// A severity, and the score that it is from, if any.
pub(super) type OsvRating = (Severity, Option<CvssScore>);

/// The severity for a number of trivy-db.
pub(super) fn severity_of_level(level: u8) -> Severity {
    match level {
        1 => Severity::Low,
        2 => Severity::Medium,
        3 => Severity::High,
        4 => Severity::Critical,
        _ => Severity::Unknown,
    }
}

/// Chooses the severity of a vulnerability, and names its source: the source of the advisory first, then GitHub for its
/// own identifiers, then the NVD, then whichever source has one (unnamed). GitHub and the NVD list vulnerabilities that
/// they have not rated yet; the source of an advisory that states none is not overruled.
pub(super) fn severity_of_detail(detail: &TrivyDetail, id: &str, source: &str) -> (Severity, Option<String>) {
    let sources = [source, if id.starts_with("GHSA-") { "ghsa" } else { "" }, "nvd"];
    let rated = sources.into_iter().find_map(|name| Some((name, *detail.vendor_severity.get(name)?)));
    match rated.map(|(name, level)| (name, severity_of_level(level))) {
        Some((name, severity)) if name == source || severity != Severity::Unknown => (severity, Some(name.to_owned())),
        _ => (detail.severity.parse().unwrap_or(Severity::Unknown), None),
    }
}

/// The worst score that any source gives.
pub(super) fn score_of_detail(detail: &TrivyDetail) -> Option<CvssScore> {
    detail.cvss.iter().flat_map(|(source, cvss)| scores(source, cvss)).reduce(CvssScore::worse)
}

fn scores<'a>(source: &'a str, cvss: &'a TrivyCvss) -> impl Iterator<Item = CvssScore> + 'a {
    let all = [(cvss.v40_score, &cvss.v40_vector), (cvss.v3_score, &cvss.v3_vector), (cvss.v2_score, &cvss.v2_vector)];
    let stated = all.into_iter().filter(|(score, vector)| *score > 0.0 && !vector.is_empty());
    stated.filter_map(move |(score, vector)| CvssScore::new(source, score, Some(vector)))
}

/// The severity and the score that an OSV record states for a package: vectors of CVSS in the newest version, else a
/// word.
pub(super) fn osv_rating<T: AsRef<str>>(affected: Option<&OsvAffected<T>>, detail: &OsvDetail) -> OsvRating {
    let has_own = |affected: &&OsvAffected<T>| !affected.severity.is_empty() || affected.severity_word.is_some();
    match affected.filter(has_own) {
        // Most records rate the vulnerability as a whole, and vectors take time to read.
        None => detail.rating.get_or_init(|| rate::<String>(None, detail)).clone(),
        affected => rate(affected, detail),
    }
}

fn rate<T: AsRef<str>>(affected: Option<&OsvAffected<T>>, detail: &OsvDetail) -> OsvRating {
    let own: Vec<_> = affected.iter().flat_map(|affected| affected.severity.iter().map(kind_and_score)).collect();
    let of_record: Vec<_> = detail.severity.iter().map(kind_and_score).collect();
    let score = newest_score(&own).or_else(|| newest_score(&of_record));
    let own_word = affected.and_then(|affected| affected.severity_word.as_ref()).map(AsRef::as_ref);
    let typed = own.iter().chain(&of_record).filter(|(kind, _)| !kind.starts_with("CVSS_"));
    let summary = detail.summary.split_once(':').map(|(word, _)| word);
    let words = typed.map(|(_, score)| Some(*score)).chain([own_word, detail.severity_word.as_deref(), summary]);
    let by_word = words.flatten().map(severity_of_word).find(|severity| *severity != Severity::Unknown);
    let by_score = score.as_ref().and_then(|score| Severity::of_cvss(score.value()));
    // A vendor's word is about its own build of the package; a vector is about the vulnerability.
    let severity = by_word.or(by_score).unwrap_or(Severity::Unknown);
    (severity, score)
}

fn kind_and_score<T: AsRef<str>>(severity: &OsvSeverity<T>) -> (&str, &str) {
    (severity.kind.as_ref(), severity.score.as_ref())
}

fn newest_score(severities: &[(&str, &str)]) -> Option<CvssScore> {
    let of_kind = |wanted: &str| {
        let mut vectors = severities.iter().filter(|(kind, _)| *kind == wanted);
        vectors.find_map(|(_, vector)| base_score(vector))
    };
    ["CVSS_V4", "CVSS_V3", "CVSS_V2"].into_iter().find_map(of_kind)
}

/// The score of a vector. A vector without impact is ignored: a version 2 vector that lacks metrics also has this
/// score.
fn base_score(vector: &str) -> Option<CvssScore> {
    let score = match Cvss::from_str(vector).ok()? {
        Cvss::CvssV30(vector) | Cvss::CvssV31(vector) => vector.base_score().value(),
        vector => vector.score(),
    };
    (score > 0.0).then(|| CvssScore::new("osv", score, Some(vector)))?
}

/// The words of GitHub, Red Hat and its rebuilds, Ubuntu and Debian.
fn severity_of_word(word: &str) -> Severity {
    match word.trim().trim_end_matches('*') {
        "unimportant" => Severity::Negligible,
        "not yet assigned" | "end-of-life" => Severity::Unknown,
        word => word.parse().unwrap_or(Severity::Unknown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detail(severities: &[(&str, u8)], severity: &str) -> TrivyDetail {
        let vendor_severity = severities.iter().map(|(source, level)| ((*source).to_owned(), *level)).collect();
        TrivyDetail { vendor_severity, severity: severity.to_owned(), ..TrivyDetail::default() }
    }

    #[test]
    fn severity_of_the_advisory_s_source_comes_first() {
        let all = detail(&[("debian", 1), ("ghsa", 3), ("nvd", 4), ("redhat", 2)], "CRITICAL");
        for (id, source, severity, named) in [
            ("CVE-2024-1", "debian", Severity::Low, Some("debian")),
            ("CVE-2024-1", "alpine", Severity::Critical, Some("nvd")),
            ("GHSA-1", "govulndb", Severity::High, Some("ghsa")),
            ("CVE-2024-1", "govulndb", Severity::Critical, Some("nvd")),
        ] {
            assert_eq!(severity_of_detail(&all, id, source), (severity, named.map(str::to_owned)), "{id} {source}");
        }
        let unrated = detail(&[("alpine", 0), ("nvd", 0)], "HIGH");
        assert_eq!(severity_of_detail(&unrated, "CVE-2024-1", "debian"), (Severity::High, None));
        let own = Some("alpine".to_owned());
        assert_eq!(severity_of_detail(&unrated, "CVE-2024-1", "alpine"), (Severity::Unknown, own));
        let other = detail(&[("redhat", 2)], "MEDIUM");
        assert_eq!(severity_of_detail(&other, "CVE-2024-1", "alpine"), (Severity::Medium, None));
        assert_eq!(severity_of_detail(&TrivyDetail::default(), "CVE-2024-1", "alpine"), (Severity::Unknown, None));
    }

    #[test]
    fn worst_score_of_all_sources_counts() {
        let cvss =
            |v3_score, v3_vector: &str| TrivyCvss { v3_score, v3_vector: v3_vector.to_owned(), ..TrivyCvss::default() };
        let mut all = detail(&[], "");
        all.cvss.insert("ghsa".to_owned(), cvss(7.5, "CVSS:3.1/AV:N"));
        all.cvss.insert("nvd".to_owned(), cvss(9.8, "CVSS:3.1/AV:L"));
        all.cvss.insert("redhat".to_owned(), cvss(10.0, ""));
        let score = score_of_detail(&all).unwrap();
        assert_eq!((score.source(), score.value()), ("nvd", 9.8));
        assert_eq!(score_of_detail(&TrivyDetail::default()), None);
    }

    #[test]
    fn osv_records_state_severities_in_many_ways() {
        let vector = |kind: &str, score: &str| OsvSeverity { kind: kind.to_owned(), score: score.to_owned() };
        let v2 = vector("CVSS_V2", "AV:N/AC:L/Au:N/C:C/I:C/A:C");
        let v3 = vector("CVSS_V3", "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:N");
        let v4 = vector("CVSS_V4", "CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:L/VI:N/VA:N/SC:N/SI:N/SA:N");
        let word = |word: &str| Some(word.to_owned());
        for (severity, severity_word, summary, expected, score) in [
            (vec![v2.clone()], None, "", Severity::Critical, Some(10.0)),
            (vec![v3.clone(), v2.clone()], None, "", Severity::Critical, Some(9.1)),
            (vec![v3.clone(), v4.clone()], None, "", Severity::Medium, Some(6.9)),
            (vec![v3.clone()], word("MODERATE"), "", Severity::Medium, Some(9.1)),
            (vec![vector("Ubuntu", "high")], None, "", Severity::High, None),
            (vec![vector("CVSS_V3", "nonsense"), v2], None, "", Severity::Critical, Some(10.0)),
            (vec![], word("low**"), "", Severity::Low, None),
            (vec![], word("unimportant"), "", Severity::Negligible, None),
            (vec![], word("not yet assigned"), "Important: openssl security update", Severity::High, None),
            (vec![], None, "Moderate: x", Severity::Medium, None),
            (vec![], None, "Denial of service: in x", Severity::Unknown, None),
        ] {
            let detail = OsvDetail { severity, severity_word, summary: summary.to_owned(), ..OsvDetail::default() };
            let (got, got_score) = osv_rating::<String>(None, &detail);
            assert_eq!((got, got_score.map(|score| score.value())), (expected, score), "{detail:?}");
        }
        let affected = OsvAffected { severity: vec![v4], ..OsvAffected::default() };
        let detail = OsvDetail { severity: vec![v3], ..OsvDetail::default() };
        assert_eq!(osv_rating(Some(&affected), &detail).0, Severity::Medium, "the package's own severity comes first");
    }
}
