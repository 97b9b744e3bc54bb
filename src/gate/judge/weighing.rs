//! Applies an entry to the evidence, away from the threads that serve requests where that may take long.

use std::sync::Arc;
use std::thread::available_parallelism;

use tokio::sync::Semaphore;

use super::judgement::EntryFinding;
use crate::gate::GateError;
use crate::oci::Digest;
use crate::policy::{self, Admission, Denial, Kind, Selected, Subject};
use crate::runtime::{Clock, Tasks};

/// Applies entries to evidence. Cheap to clone.
#[derive(Clone)]
pub(in crate::gate) struct OpinionWeigher {
    clock: Clock,
    tasks: Tasks,
    /// How many potentially slow evaluations run at once: on at most half of the processor cores. Others wait, but
    /// requests under other entries do not.
    turns: Arc<Semaphore>,
    /// Assessments for the answers of the admin API: one at a time, so that they take no turn from pulls.
    answers: Arc<Semaphore>,
}

impl OpinionWeigher {
    pub(in crate::gate) fn new(clock: Clock, tasks: Tasks) -> Self {
        let cores = available_parallelism().map_or(1, usize::from);
        let turns = Arc::new(Semaphore::new((cores / 2).max(1)));
        Self { clock, tasks, turns, answers: Arc::new(Semaphore::new(1)) }
    }

    /// Runs assessments for an answer of the admin API, away from the threads that serve requests. `None` if they ended
    /// abnormally.
    pub(in crate::gate) async fn answer<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        // Held until the work ends, even if the caller leaves.
        let turn = self.answers.clone().acquire_owned().await.ok()?;
        let work = move || {
            let answer = work();
            drop(turn);
            answer
        };
        self.tasks.spawn_blocking(work).await.ok()
    }

    /// The outcome of an entry, on this thread.
    pub(super) fn weigh(
        &self,
        subject: &Subject,
        digest: Digest,
        kind: Kind,
        finding: &EntryFinding,
    ) -> Result<Admission, Denial> {
        policy::weigh(&policy::Question {
            subject,
            digest,
            kind,
            selected: &finding.opinion.selected,
            trust: &finding.evidence.trust,
            va: finding.evidence.va.as_ref(),
            exemptions: &finding.evidence.exemptions,
            history: &finding.evidence.history,
            now: self.clock.now(),
        })
    }

    /// A finding with the outcome of its entry. `None` if the evaluation ended abnormally.
    pub(super) async fn weighed(
        &self,
        subject: &Subject,
        digest: Digest,
        kind: Kind,
        mut finding: EntryFinding,
    ) -> Option<EntryFinding> {
        let may_take_long = finding.opinion.selected.rule.as_ref().is_some_and(|rule| rule.may_take_long());
        if !may_take_long || finding.evidence.va.is_none() {
            finding.opinion.outcome = self.weigh(subject, digest, kind, &finding);
            return Some(finding);
        }
        // Held until the work ends, even if the client leaves.
        let turn = self.turns.clone().acquire_owned().await.ok()?;
        let (weigher, subject) = (self.clone(), subject.clone());
        let work = move || {
            finding.opinion.outcome = weigher.weigh(&subject, digest, kind, &finding);
            drop(turn);
            finding
        };
        self.tasks.spawn_blocking(work).await.ok()
    }
}

/// Weighs the entries in order until one admits.
pub(super) async fn until_admitted<F>(
    selected: Vec<Selected>,
    weigh: impl Fn(Selected) -> F,
) -> Result<Vec<EntryFinding>, GateError>
where
    F: Future<Output = Result<EntryFinding, GateError>>,
{
    let mut findings = Vec::with_capacity(selected.len());
    for selected in selected {
        let finding = weigh(selected).await?;
        let admits = finding.opinion.outcome.is_ok();
        findings.push(finding);
        if admits {
            break;
        }
    }
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;
    use crate::gate::judge::evidence::GatheredEvidence;
    use crate::oci::ImageReference;
    use crate::policy::{
        Document, NoMaterials, Observed, Opinion, PackageList, Report, RuleSet, Selection, Settings, VaEvidence,
        VaFindings,
    };

    /// The report that an entry with this condition weighs: an empty one.
    fn finding(va: &str, subject: &Subject, now: jiff::Timestamp) -> EntryFinding {
        let text = format!(
            "apiVersion: pullgate.io/v1\nkind: ClusterImagePolicy\nmetadata: {{name: p}}\nspec: {{repositories: [{{name: '*', \
             policy: {{va: {{{va}}}}}}}]}}\n"
        );
        let document = Document { path: "p.yaml".into(), text };
        let rules = RuleSet::parse(&[document], &NoMaterials, &Settings::default()).rules.unwrap();
        let Selection::Entries { enforced, .. } = rules.select(subject) else { panic!() };
        let report = VaEvidence::Report(Report { packages: Some(PackageList::default()), ..Report::default() });
        let va = VaFindings::Image(Arc::new(Observed { value: report, at: now, until: None }));
        let opinion = Opinion { selected: enforced[0].clone(), outcome: Ok(Admission::default()) };
        EntryFinding { opinion, evidence: GatheredEvidence { va: Some(va), ..GatheredEvidence::default() } }
    }

    /// However many conditions are evaluated, other entries do not wait for them.
    #[tokio::test]
    async fn only_potentially_slow_work_waits_for_a_turn() {
        let (clock, digest) = (Clock::system(), Digest::sha256(b"image"));
        let weigher = OpinionWeigher::new(clock.clone(), Tasks::new());
        let all = u32::try_from(weigher.turns.available_permits()).unwrap();
        let held = weigher.turns.clone().acquire_many_owned(all).await.unwrap();
        let image: ImageReference = "r.io/app:v1".parse().unwrap();
        let subject = Subject::new(image.name.clone(), image.reference(), crate::scope::Scope::CLUSTER);
        let of = |va: &str| weigher.weighed(&subject, digest, Kind::Image, finding(va, &subject, clock.now()));
        assert!(of("severity: high").await.unwrap().opinion.outcome.is_ok());
        let mut conditional = pin!(of("when: 'true'"));
        let mut banning = pin!(of("bannedPackages: ['pkg:npm/left-pad']"));
        tokio::select! {
            biased;
            _ = &mut conditional => panic!("no turn is free"),
            _ = &mut banning => panic!("no turn is free"),
            () = std::future::ready(()) => {}
        }
        drop(held);
        let denial = conditional.await.unwrap().opinion.outcome.unwrap_err();
        assert!(denial.to_string().contains("when: the image is denied because true"), "{denial}");
        assert!(banning.await.unwrap().opinion.outcome.is_ok());
        assert_eq!(weigher.turns.available_permits(), all as usize);
    }
}
