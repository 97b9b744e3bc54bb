//! The report on the whole account, compared with pulls and measured.

use super::*;

/// The cost of the report on an account with very many images, and of `pullgate images`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "pulls 20,000 images"]
async fn measure_the_account_report_with_many_images() {
    let images: usize = std::env::var("PULLGATE_ACCOUNT_IMAGES").map_or(20_000, |text| text.parse().expect("a number"));
    let registry = TestRegistry::start().await;
    let packages = (0..60).fold(python("2.2.0"), |tree, n| distribution(tree, &format!("package-{n}"), "1.0"));
    let layer = Layer::gzip(&packages);
    for number in 0..images {
        let built = Image::linux_amd64().annotation("number", &number.to_string()).layer(layer.clone()).build();
        registry.push("team/app", Some(&number.to_string()), &built);
    }
    // A rule that looks at everything that is looked up for a known image.
    let rules = policy(
        "  - {name: \"*\", policy: {va: {severity: critical, admittedGrace: 7d, alwaysBlock: [CVE-1], ignore: [CVE-2022-28346]}}}\n",
    );
    let gate = started(TestGate::new(&registry, &rules)).await;
    for number in 0..images {
        let answer = gate.get(&format!("/team/app/manifests/{number}")).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    for (call, list) in [("/va/api/v4/report/account/status", "images"), ("/va/api/v4/report/account", "assessments")] {
        for round in ["first", "second"] {
            let (began, mut after, mut listed, mut longest) = (Instant::now(), None::<String>, 0, Duration::ZERO);
            loop {
                let page = Instant::now();
                let query = after.as_ref().map(|after| format!("?after={after}")).unwrap_or_default();
                let answer = get(&gate, &format!("{call}{query}")).await.json();
                longest = longest.max(page.elapsed());
                listed += answer[list]
                    .as_array()
                    .map_or_else(|| answer[list].as_object().map_or(0, serde_json::Map::len), Vec::len);
                after = answer["next"].as_str().map(str::to_owned);
                if after.is_none() {
                    break;
                }
            }
            assert_eq!(listed, images);
            println!("{call}, {round} time: {images} images in {:?}, the longest page {longest:?}", began.elapsed());
        }
    }
}

/// An exemption of a digest, a rule that ignores an issue, and the images of an index are seen in the list as in a pull.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_account_agrees_with_what_a_pull_finds() {
    let registry = TestRegistry::start().await;
    let (bad, good) = (image("Django", "2.2.0"), image("Django", "2.2.28"));
    let arm = Image::new(platform("arm64")).layer(Layer::gzip(&python("2.2.1"))).build();
    registry.push("a/app", Some("1"), &bad);
    registry.push("a/index", Some("1"), &index(&[good.clone(), arm.clone()]));
    let both = "[gate]\nplatforms = [\"linux/amd64\", \"linux/arm64\"]";
    let gate = started(TestGate::new(&registry, &policy(SCANNED)).with(both)).await;
    let pull = async |path: &str| gate.get(path).await.status;
    let of_arm = format!("/a/index/manifests/{}", arm.root);
    let mut ids = Vec::new();
    for digest in [format!("{HOST}/a/app@{}", bad.root), format!("{HOST}/a/index@{}", arm.root)] {
        let issue = ["--issue-type", "cve", "--issue-id", "CVE-2022-28346"];
        let words = [&["exemption", "add", "-o", "json", "--scope", &digest], &issue[..]].concat();
        let added = pullgate(&gate, &words).await;
        assert!(added.status.success(), "{}", text(&added));
        let added: Value = serde_json::from_slice(&added.stdout).expect("JSON");
        ids.push(added["id"].as_str().expect("an id").to_owned());
    }
    let of_good = format!("/a/index/manifests/{}", good.root);
    for path in ["/a/app/manifests/1", "/a/index/manifests/1", &of_good, &of_arm] {
        assert_eq!(pull(path).await, 200, "{path}");
    }
    let statuses = async || {
        let list = get(&gate, "/va/api/v4/report/account/status").await.json();
        let images = list["images"].as_array().expect("images").clone();
        images.iter().map(|image| (image["name"].clone(), image["status"].clone())).collect::<Vec<_>>()
    };
    let expected = |of_app: &str, of_index: &str| {
        let named = |(name, status)| (json!(format!("{HOST}/{name}:1")), json!(status));
        [("a/app", of_app), ("a/index", of_index)].map(named)
    };
    assert_eq!(statuses().await, expected("WARN", "WARN"), "exemptions of digests count");
    let report = get(&gate, &format!("/va/api/v4/report/account?repository={HOST}/a/app")).await.json();
    assert_eq!(report["assessments"][format!("{HOST}/a/app:1")]["status"], "WARN");
    let listed = text(&pullgate(&gate, &["images"]).await);
    assert_eq!(listed.matches("No Issues").count(), 2, "{listed}");

    let young = "  - {name: \"*/a/app\", policy: {va: {severity: low, coolDown: 3d}}}\n";
    gate.set_policy(&policy(&format!("{young}{SCANNED}")));
    assert_eq!(pull("/a/app/manifests/1").await, 403, "it is too young");
    let listed = text(&pullgate(&gate, &["images"]).await);
    assert!(listed.contains("Denied") && listed.matches("No Issues").count() == 1, "{listed}");

    gate.set_policy(&policy(SCANNED));
    for id in &ids {
        assert!(pullgate(&gate, &["exemption", "rm", id]).await.status.success());
    }
    assert_eq!((pull("/a/app/manifests/1").await, pull(&of_arm).await), (403, 403));
    assert_eq!(statuses().await, expected("FAIL", "FAIL"), "the worst image of the index counts");
    let ignoring = "  - {name: \"*\", policy: {va: {severity: low, ignore: [CVE-2022-28346]}}}\n";
    gate.set_policy(&policy(ignoring));
    assert_eq!((pull("/a/app/manifests/1").await, statuses().await), (200, expected("WARN", "WARN").to_vec()));
}
