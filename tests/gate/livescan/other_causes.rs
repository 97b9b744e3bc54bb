//! Verdicts that change by time and by report files; what is measured and recorded.

use super::*;

/// What an image's author states does not matter: it is this gate that must know the image for so long.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_cools_down_from_its_first_request_even_across_a_restart() {
    let registry = TestRegistry::start().await;
    let clock = Clock::manual("2026-01-10T00:00:00Z".parse().expect("a time"));
    registry.push("team/app", Some("1"), &Image::linux_amd64().created("2020-01-01T00:00:00Z").build());
    let cooling = "  - {name: \"*\", policy: {va: {severity: high, unscanned: allow, coolDown: 3d}}}\n";
    let made = TestGate::new(&registry, &policy(cooling)).upstream("tag_ttl = \"30d\"").clock(&clock);
    let gate = made.start().await;
    let denied = gate.get("/team/app/manifests/1").await;
    assert_eq!(denied.status, 403, "{}", denied.text());
    assert!(denied.text().contains("admitted from 2026-01-13T00:00:00Z"), "{}", denied.text());
    clock.advance(SignedDuration::from_hours(71));
    let gate = gate.stop().await.start().await;
    let denied = gate.get("/team/app/manifests/1").await;
    assert!(denied.text().contains("admitted from 2026-01-13T00:00:00Z"), "{}", denied.text());
    clock.advance(SignedDuration::from_hours(1));
    let admitted = gate.get("/team/app/manifests/1").await;
    assert_eq!(admitted.status, 200, "{}", admitted.text());
}

/// A report that arrives says what is wrong with images that were admitted before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_report_file_changes_verdicts() {
    let (registry, log) = (TestRegistry::start().await, EventLog::start().await);
    let built = image([Layer::gzip(&python("2.2.28"))]);
    registry.push("team/app", Some("1"), &built);
    let gate = scanning(&registry, &log).await;
    let answer = gate.get("/team/app/manifests/1").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    // The verdict is recorded in the background.
    let recorded = async {
        while request("GET", &gate.admin_url("/metrics"), &[]).await.text().contains("pullgate_verdicts_outdated 1") {}
        gate.get("/team/app/manifests/1").await
    };
    soon(recorded).await;
    let report = json!({
        "SchemaVersion": 2, "CreatedAt": "2026-01-01T00:00:00Z", "ArtifactName": "x", "ArtifactType": "container_image",
        "Metadata": {"OS": {"Family": "debian", "Name": "12"}, "ImageID": built.manifest().digest},
        "Results": [{"Target": "x", "Class": "os-pkgs", "Type": "debian", "Vulnerabilities": [{
            "VulnerabilityID": "CVE-2024-1", "PkgName": "openssl", "Severity": "HIGH"
        }]}]
    });
    let unfinished = gate.file("reports/.app.json");
    fs::write(&unfinished, report.to_string()).expect("a file");
    fs::rename(unfinished, gate.file("reports/app.json")).expect("a file");
    let event = log.until("verdict.changed", 1).await.remove(0);
    let data = &event["data"];
    assert_eq!((&data["cause"], &data["to"]["decision"]), (&json!("rules"), &json!("deny")), "{data}");
    assert!(data["to"]["reason"].as_str().expect("a reason").contains("CVE-2024-1"), "{data}");
    fs::remove_file(gate.file("reports/app.json")).expect("it was there");
    let released = log.until("verdict.changed", 2).await.remove(1);
    assert_eq!(released["data"]["to"]["decision"], "admit", "the gate's own scanner decides again");
}

/// The time from new advisories to the events about the images that they concern, among many that they do not concern.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "pulls 10,000 images"]
async fn measure_new_advisories_with_many_images() {
    let images: usize =
        std::env::var("PULLGATE_LIVESCAN_IMAGES").map_or(10_000, |text| text.parse().expect("a number"));
    let concerned = images / 100;
    let (registry, log) = (TestRegistry::start().await, EventLog::start().await);
    let packages = |tree: Tree| (0..60).fold(tree, |tree, n| distribution(tree, &format!("package-{n}"), "1.0"));
    let (safe, old) = (Layer::gzip(&packages(Tree::new())), Layer::gzip(&python("2.2.0")));
    let build = |number: usize| -> Built {
        let image = Image::linux_amd64().annotation("number", &number.to_string()).layer(safe.clone());
        if number.is_multiple_of(100) { image.layer(old.clone()).build() } else { image.build() }
    };
    for number in 0..images {
        registry.push("team/app", Some(&number.to_string()), &build(number));
    }
    let gate = Arc::new(scanning(&registry, &log).await);
    let began = Instant::now();
    let pulls = (0..8).map(|part| {
        let gate = gate.clone();
        async move {
            for number in (0..images).filter(|number| number % 8 == part) {
                let answer = gate.get(&format!("/team/app/manifests/{number}")).await;
                assert_eq!(answer.status, 200, "{}", answer.text());
            }
        }
    });
    futures_util::future::join_all(pulls).await;
    println!("{images} images pulled in {:?}", began.elapsed());
    let requests = registry.requests().len();
    let folder = gate.file("");
    add_record(&folder, &record("PYSEC-2", "django", "2024-01-02T00:00:00Z"));
    imported(&folder).await;
    let wait = |kind: &'static str, count: usize| {
        let log = log.clone();
        async move {
            while log.of(kind).len() < count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    };
    wait("database.updated", 1).await;
    let swapped = Instant::now();
    wait("verdict.changed", 1).await;
    println!("the first of {concerned} changes was reported {:?} after the swap", swapped.elapsed());
    wait("verdict.changed", concerned).await;
    println!("the last one {:?} after the swap", swapped.elapsed());
    assert_eq!(registry.requests().len(), requests, "nothing is downloaded");
    assert_eq!(log.of("verdict.changed").len(), concerned);
}

/// Whoever put them into use: they decide which images are admitted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_databases_are_recorded_for_the_audit() {
    let (registry, log) = (TestRegistry::start().await, EventLog::start().await);
    let gate = scanning(&registry, &log).await;
    let folder = gate.file("");
    add_record(&folder, &record("PYSEC-2", "django", "2024-01-02T00:00:00Z"));
    imported(&folder).await;
    log.until("database.updated", 1).await;
    let (_, records) = gate.stop_and_read_audit().await;
    let used: Vec<_> = records.iter().filter(|record| record["decision"] == "use-advisories").collect();
    assert_eq!(used.len(), 1, "{records:?}");
    let reasons = used[0]["reasons"].to_string();
    assert!(reasons.contains("osv-pypi of 2024-01-02T00:00:00Z"), "{reasons}");
}
