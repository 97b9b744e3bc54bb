//! The evidence of a case, as the gate would have found it.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::case::{
    CaseAffected, CaseBase, CaseBases, CaseFeeds, CaseHistory, CaseImage, CaseIssue, CaseIssues, CasePackage, CaseTime,
    CaseTrust, CaseVa, CaseVersions, EvalCase, FullIssue,
};
use crate::oci::Digest;
use crate::policy::{
    AffectedPackage, Authority, BaseImage, CvssScore, DeclaredLicence, Feeds, ImageFacts, ImageHistory, Issue,
    IssueKind, Kind, NOTARY, NotaryTrust, OWN_CHECKS, Observed, Purl, Question, Report, ReportPackage, Scheme,
    Selected, Severity, Signatory, SignatureFinding, Subject, TrustEvidence, TrustFindings, TrustOutcome, VaEvidence,
    VaExemptions, VaFindings, VaRule, Verdict, kind_of_issue, trust_verdict,
};

/// The evidence of a case, as the gate would have found it.
pub(super) struct EvalEvidence {
    trust: TrustFindings,
    /// `None` if none is needed: the rule has no `va`, or the signatures already deny it.
    pub(super) va: Option<VaFindings>,
    exemptions: VaExemptions,
    history: ImageHistory,
    now: Timestamp,
}

impl EvalEvidence {
    /// What one entry needs. `exemptions` are those that apply to the image, and `now` is the time of the decision if
    /// the case states none.
    ///
    /// # Errors
    /// What is wrong with the case.
    pub(super) fn of(
        case: &EvalCase,
        exemptions: VaExemptions,
        selected: &Selected,
        now: Timestamp,
    ) -> Result<Self, String> {
        let now = case.now.map_or(now, |now| now.0);
        let mut evidence = Self {
            trust: TrustFindings::default(),
            va: None,
            exemptions,
            history: case.history.as_ref().map(history).unwrap_or_default(),
            now,
        };
        let Some(rule) = &selected.rule else { return Ok(evidence) };
        let none = CaseTrust::default();
        let trust = case.trust.as_ref().unwrap_or(&none);
        let mut own = TrustEvidence::default();
        for authority in rule.authorities() {
            own.insert(authority.id().clone(), observed(outcome(&authority, trust, now), now));
        }
        evidence.trust = TrustFindings { own, ..TrustFindings::default() };
        let passes = trust_verdict(rule, Kind::Image, &evidence.trust, now)
            .iter()
            .all(|verdict| matches!(verdict, Verdict::Pass(_) | Verdict::Skipped));
        if let (true, Some(va)) = (passes, &rule.va) {
            let found = named(assessment(case.va.as_ref(), va, now)?, case);
            evidence.va = Some(VaFindings::Image(Arc::new(observed(found, now))));
        }
        Ok(evidence)
    }

    pub(super) fn question<'a>(&'a self, subject: &'a Subject, digest: Digest, selected: &'a Selected) -> Question<'a> {
        let Self { trust, va, exemptions, history, now } = self;
        let (kind, va) = (Kind::Image, va.as_ref());
        Question { subject, digest, kind, selected, trust, va, exemptions, history, now: *now }
    }
}

fn observed<T>(value: T, at: Timestamp) -> Observed<T> {
    Observed { value, at, until: None }
}

/// An authority verified if the list has its name; Docker Content Trust verified if there is trust data by all required
/// signers. A missing secret is represented by its name: the evidence says that it verified. The time of signing is
/// that of the decision, so an authority none of whose keys is valid then did not verify.
fn outcome(authority: &Authority, trust: &CaseTrust, now: Timestamp) -> TrustOutcome {
    if let Some(why) = &trust.error {
        return TrustOutcome::unknown(why, false);
    }
    let listed = |name: &str| [&trust.signers, &trust.simple].into_iter().flatten().flatten().any(|n| n == name);
    let verified = listed(authority.name())
        || match authority.scheme() {
            Scheme::Notary(NotaryTrust { signers, .. }) => trust.signers.as_ref().is_some_and(|found| {
                let all = signers.iter().all(|signer| found.contains(&signer.name));
                all && (!signers.is_empty() || authority.name() == NOTARY)
            }),
            Scheme::Unusable { .. } => authority.name().split(',').all(listed),
            Scheme::Cosign(_) | Scheme::Gpg(_) | Scheme::Notation(_) => false,
        };
    if verified && authority.is_out_of_validity(now) {
        let why = "is by a key that is not valid at the time of the decision (validFrom, validUntil)";
        return TrustOutcome::Unverified { found: vec![SignatureFinding::refused("the case", "the signature", why)] };
    }
    if verified {
        let signatory = |id| Signatory::assumed(id, authority);
        let by = authority.signers().into_iter().map(signatory).collect();
        return TrustOutcome::Verified { by, found: Vec::new(), unseen: None };
    }
    match authority.scheme() {
        Scheme::Unusable { why } => TrustOutcome::unknown(why, false),
        Scheme::Notary(NotaryTrust { signers, .. }) if trust.signers.is_some() && !signers.is_empty() => {
            let wanted: Vec<_> = signers.iter().map(|signer| &*signer.name).collect();
            trust_data(&format!("is not signed by all of {}", wanted.join(", ")))
        }
        Scheme::Notary(_) => trust_data("is not valid, or missing"),
        Scheme::Cosign(_) | Scheme::Gpg(_) | Scheme::Notation(_) => TrustOutcome::Unverified { found: Vec::new() },
    }
}

fn trust_data(why: &str) -> TrustOutcome {
    TrustOutcome::Unverified { found: vec![SignatureFinding::refused("the case", "trust data", why)] }
}

/// The evidence with the name of the image itself, by which conditions on base images know it. These do not need a
/// report.
fn named(evidence: VaEvidence, case: &EvalCase) -> VaEvidence {
    let digest = case.digest.as_deref().and_then(|digest| digest.parse().ok());
    let names = vec![BaseImage { name: case.image.clone(), digest }];
    let stated = || case.va.as_ref().and_then(|va| va.image.as_ref()).map(facts).unwrap_or_default();
    let image = ImageFacts { names, ..evidence.image().cloned().unwrap_or_else(stated) };
    evidence.with_image(image)
}

/// IBM's status and what is listed, as evidence.
///
/// In the IBM dialects the status decides: with `OK` and `WARN`, no issue counts. With `FAIL` and its older name
/// `BLOCK`, what is listed is judged; if all of it is exempt, an issue that always counts is added. It is added to what
/// is listed with every unknown status. Without a status, what is listed is the report; nothing listed means that the
/// image was not scanned.
///
/// A status says that IBM has assessed the image, so in the IBM dialects the configuration issues beside it are IBM's.
/// Without one they are the gate's own, which do not count there.
fn assessment(va: Option<&CaseVa>, rule: &VaRule, now: Timestamp) -> Result<VaEvidence, String> {
    let Some(va) = va else { return Ok(VaEvidence::Unscanned) };
    let why = || va.why.clone().or_else(|| va.incomplete.clone()).unwrap_or_default();
    let is_native = rule.severity != Severity::Unknown;
    let checks = (va.status.is_none() || is_native).then_some(OWN_CHECKS);
    let mut report = report(va, CheckOrigin { checks, is_native }, now)?;
    let says_nothing = matches!(va.issues, CaseIssues::None) && va.packages.is_none() && va.image.is_none();
    match va.status.as_deref() {
        None if says_nothing && va.incomplete.is_some() => return Ok(VaEvidence::Incomplete { why: why() }),
        None if says_nothing => return Ok(VaEvidence::Unscanned),
        None => {}
        Some(status @ ("PENDING" | "UNAVAILABLE" | "UNSCANNED")) if !report.issues.is_empty() && is_native => {
            return Err(format!("va.status {status} with issues: an image without a report has no issues"));
        }
        Some("OPAQUE") if report.packages.as_ref().is_some_and(|packages| !packages.is_empty()) => {
            return Err("va.status OPAQUE with packages: nothing was recognised in an opaque image".to_owned());
        }
        Some("UNSCANNED") => return Ok(VaEvidence::Unscanned),
        Some("PENDING") => return Ok(VaEvidence::Pending { why: why() }),
        Some("UNAVAILABLE") => return Ok(VaEvidence::Unavailable { why: why() }),
        Some("UNSUPPORTED") => return Ok(VaEvidence::Unsupported { why: why(), issues: report.issues }),
        Some("OPAQUE") => return Ok(VaEvidence::Opaque { why: why(), issues: report.issues, image: report.image }),
        Some("INCOMPLETE") if says_nothing => return Ok(VaEvidence::Incomplete { why: why() }),
        Some("INCOMPLETE") => report.incomplete = report.incomplete.or(Some(why())),
        Some("OK") if !is_native => report.issues.clear(),
        Some("OK") => {}
        Some("WARN") => {
            report.issues.iter_mut().for_each(|issue| issue.exempt = true);
            if report.issues.is_empty() {
                report.issues.push(Issue { exempt: true, ..counting("exempt issue") });
            }
        }
        Some("FAIL" | "BLOCK") if report.issues.iter().any(|issue| !issue.exempt && may_count(rule, issue)) => {}
        Some(status) => report.issues.push(counting(&format!("status {status}"))),
    }
    Ok(VaEvidence::Report(report))
}

/// Whether a rule looks at an issue: the IBM dialects do not look at what the gate itself finds.
fn may_count(rule: &VaRule, issue: &Issue) -> bool {
    rule.severity != Severity::Unknown || !issue.is_own_check()
}

/// The origin of configuration issues for which a case states none.
#[derive(Clone, Copy)]
struct CheckOrigin {
    /// `None` if it is not the gate itself.
    checks: Option<&'static str>,
    /// Whether the policy is not in an IBM dialect.
    is_native: bool,
}

/// The report that a case describes.
fn report(va: &CaseVa, checks: CheckOrigin, now: Timestamp) -> Result<Report, String> {
    let generated_at = va.generated_at.map_or(Some(now), time);
    let database_built = va.database_built.map_or(generated_at, time);
    let of_feeds = |feeds: &CaseFeeds| Feeds { kev: time(feeds.kev), epss: time(feeds.epss) };
    let feeds = match &va.feeds {
        None => Feeds { kev: Some(now), epss: Some(now) },
        Some(None) => Feeds::default(),
        Some(Some(feeds)) => of_feeds(feeds),
    };
    let packages = va.packages.as_ref().map(|all| all.iter().map(package).collect::<Result<_, _>>()).transpose()?;
    let image = va.image.as_ref().map(facts).unwrap_or_default();
    Ok(Report {
        source: va.source.clone().unwrap_or_else(|| "policy eval".into()),
        generated_at,
        issues: listed(&va.issues, checks)?,
        incomplete: va.incomplete.clone().or_else(|| va.past_support.then(|| "its support has ended".to_owned())),
        is_only_past_support: va.past_support && va.incomplete.is_none(),
        gaps: Vec::new(),
        checks_configuration: va.checks_configuration.unwrap_or(true),
        image: ImageFacts {
            database_built,
            feeds,
            end_of_life: image.end_of_life.or_else(|| va.past_support.then_some(now)),
            has_ended_before: va.past_support,
            ..image
        },
        packages,
    })
}

fn time(time: Option<CaseTime>) -> Option<Timestamp> {
    time.map(|time| time.0)
}

fn facts(image: &CaseImage) -> ImageFacts {
    let base = |base: &CaseBase| match base {
        CaseBase::Name(name) => BaseImage { name: name.clone(), digest: None },
        CaseBase::Full { name, digest } => BaseImage { name: name.clone(), digest: *digest },
    };
    let bases = match &image.base {
        None => Vec::new(),
        Some(CaseBases::One(one)) => vec![base(one)],
        Some(CaseBases::Each(list)) => list.iter().map(base).collect(),
    };
    ImageFacts {
        created: time(image.created),
        end_of_life: time(image.end_of_life),
        distribution: image.distribution.clone(),
        bases,
        claimed_base: image.claimed_base.as_ref().map(base),
        ..ImageFacts::default()
    }
}

fn purl(text: Option<&str>) -> Result<Option<Purl>, String> {
    text.map(|text| Purl::parse(text).ok_or_else(|| format!("{text:?} is not a package URL"))).transpose()
}

fn package(package: &CasePackage) -> Result<ReportPackage, String> {
    let purl = purl(package.purl.as_deref())?;
    let of_purl = |part: fn(&Purl) -> Option<&str>| purl.as_ref().and_then(part).unwrap_or_default().to_owned();
    let name = package.name.clone().unwrap_or_else(|| of_purl(|purl| Some(purl.name())));
    if name.is_empty() {
        return Err("a package has neither a name nor a package URL".to_owned());
    }
    Ok(ReportPackage {
        name,
        version: package.version.clone().unwrap_or_else(|| of_purl(Purl::version)),
        purl: purl.clone(),
        licences: package.licences.list().into_iter().map(DeclaredLicence::new).collect(),
        published: time(package.published),
        path: package.path.clone(),
        source_name: package.source.clone(),
        source_version: package.source_version.clone(),
    })
}

fn history(history: &CaseHistory) -> ImageHistory {
    let times = |times: &BTreeMap<String, CaseTime>| times.iter().map(|(id, at)| (id, at.0)).collect();
    ImageHistory {
        known_since: time(history.known_since),
        admitted_since: time(history.admitted_since),
        noted_since: None,
        first_seen: times(&history.first_seen),
        seen_in_repository: times(&history.seen_in_repository),
    }
}

fn listed(issues: &CaseIssues, checks: CheckOrigin) -> Result<Vec<Issue>, String> {
    match issues {
        CaseIssues::None => Ok(Vec::new()),
        CaseIssues::Count(count) => Ok((1..=(*count).min(1000)).map(|n| counting(&format!("issue {n}"))).collect()),
        CaseIssues::Each(list) => list
            .iter()
            .map(|one| match one {
                CaseIssue::Id(id) => Ok(listed_by_id(id)),
                CaseIssue::Full(full) => issue(full, checks),
            })
            .collect(),
    }
}

/// A missing or unknown severity counts as the highest.
fn severity(text: Option<&str>) -> Severity {
    text.and_then(|text| text.parse().ok()).unwrap_or(Severity::Unknown)
}

fn issue(full: &FullIssue, origin: CheckOrigin) -> Result<Issue, String> {
    let versions = &full.versions;
    let is_in_package = versions.purl.is_some() || versions.installed.is_some() || versions.fixed.is_some();
    let kind = match full.kind.as_deref() {
        // A configuration issue is in no package.
        None if is_in_package => IssueKind::Vulnerability,
        None => kind_of_issue(&full.id),
        Some("vulnerability") => IssueKind::Vulnerability,
        Some("configuration") => IssueKind::Configuration,
        Some(other) => return Err(format!("kind {other:?} is neither \"vulnerability\" nor \"configuration\"")),
    };
    let named = |package: &CaseAffected| affected(package.name.as_deref(), &package.versions);
    if !full.packages.is_empty() && (full.package.is_some() || full.versions != CaseVersions::default()) {
        return Err("an issue has either \"packages\" or the fields of one package".to_owned());
    }
    let packages = match full.packages.is_empty() {
        true => vec![affected(full.package.as_deref(), &full.versions)?],
        false => full.packages.iter().map(named).collect::<Result<_, _>>()?,
    };
    // In the IBM dialects, an identifier alone does not say that the gate found the issue, so that it counts.
    let is_own = kind == IssueKind::Configuration && (full.kind.is_some() || origin.is_native);
    let of_checks = origin.checks.filter(|_| is_own).map(str::to_owned);
    let mut aliases = full.aliases.clone();
    // The identifier marks a package as malware.
    let named = Issue { aliases: aliases.clone(), ..Issue::new(full.id.as_str(), kind, Severity::Unknown) };
    if full.malicious && !named.is_malicious() {
        aliases.push(format!("MAL-{}", full.id));
    }
    Ok(Issue {
        aliases,
        packages,
        exempt: full.exempt,
        title: full.title.clone(),
        published: time(full.published),
        first_seen: time(full.first_seen),
        score: full.score.and_then(|score| CvssScore::new("policy eval", score, None)),
        severity_source: full.severity_source.clone().or(of_checks),
        ratings: full.ratings.iter().map(|(source, text)| (source.clone(), severity(Some(text)))).collect(),
        exploited: full.exploited,
        epss: full.epss,
        ..Issue::new(full.id.as_str(), kind, severity(full.severity.as_deref()))
    })
}

fn affected(name: Option<&str>, versions: &CaseVersions) -> Result<AffectedPackage, String> {
    let purl = purl(versions.purl.as_deref())?;
    let of_purl = purl.as_ref().map(|purl| purl.name().to_owned());
    let version = purl.as_ref().and_then(Purl::version).map(str::to_owned);
    let upstream = purl.as_ref().and_then(Purl::upstream).map(|(name, _)| name.to_owned());
    Ok(AffectedPackage {
        name: stated(name).or(of_purl).unwrap_or_default(),
        installed: stated(versions.installed.as_deref()).or(version),
        fixed: stated(versions.fixed.as_deref()),
        ecosystem: purl.as_ref().map(|purl| purl.kind().to_owned()),
        purl,
        status: versions.status,
        path: stated(versions.path.as_deref()),
        source: stated(versions.source.as_deref()).or(upstream),
        source_version: stated(versions.source_version.as_deref()),
        ..AffectedPackage::default()
    })
}

/// A string that is not blank, read as in reports: some tools write an empty version if there is none.
fn stated(text: Option<&str>) -> Option<String> {
    text.filter(|text| !text.trim().is_empty()).map(str::to_owned)
}

/// An issue of which only the identifier is known. It counts under every rule unless it is exempt: listing it states
/// that it counts.
fn listed_by_id(id: &str) -> Issue {
    let package = AffectedPackage { fixed: Some("a later version".into()), ..AffectedPackage::default() };
    Issue { packages: vec![package], ..Issue::new(id, kind_of_issue(id), Severity::Unknown) }
}

/// An issue that counts under every rule.
fn counting(id: &str) -> Issue {
    Issue::new(id, IssueKind::Configuration, Severity::Unknown)
}
