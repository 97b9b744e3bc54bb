//! curl: the responses on the wire.

use crate::harness::{Client, Finished, Image, PAYLOAD, Program, Setup, UPSTREAM, World, file_of_layer};

struct Curl;

impl Curl {
    fn request(world: &World, options: &[&str], path: &str) -> Program {
        let url = format!("{}/v2/{UPSTREAM}/{path}", world.gate.url());
        let accept = "Accept: application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json";
        let ca = world.gate.ca().display().to_string();
        Program::new("curl", world.dir())
            .args(["--silent", "--show-error", "--cacert", &ca, "--header", accept])
            .args(options)
            .args([url])
    }
}

impl Client for Curl {
    fn pull(&self, world: &World, image: &Image) -> Finished {
        let path = format!("{}/manifests/{}", image.repository, image.tag);
        Self::request(world, &["--fail-with-body"], &path).run()
    }

    fn content(&self, world: &World, image: &Image) -> (Vec<u8>, Option<String>) {
        let layer = image.blobs.last().expect("a layer");
        let layer = Self::request(world, &["--fail"], &format!("{}/blobs/{layer}", image.repository)).run().bytes();
        let path = format!("{}/manifests/{}", image.repository, image.tag);
        let head = Self::request(world, &["--head", "--fail"], &path).run().text();
        let digest = head.lines().find_map(|line| line.strip_prefix("Docker-Content-Digest: "));
        let digest = digest.or_else(|| head.lines().find_map(|line| line.strip_prefix("docker-content-digest: ")));
        (file_of_layer(&layer, PAYLOAD), Some(digest.expect("a digest header").to_owned()))
    }
}

#[test]
fn by_path_prefix() {
    World::new().enforces(&Curl);
}

#[test]
fn over_tls() {
    World::with(&Setup { tls: true, ..Setup::default() }).enforces(&Curl);
}

/// A response to HEAD has no body, so the reason is in the reason phrase, as one line of printable ASCII.
#[test]
fn denied_heads_have_the_reason_in_the_status_line() {
    let world = World::new();
    let head = Curl::request(&world, &["--head"], "denied/app/manifests/1").run().text();
    let status = head.lines().next().expect("a status line");
    assert!(status.starts_with("HTTP/1.1 403 pullgate: "), "{status}");
    assert!(status.contains("denied by ClusterImagePolicy/interop"), "{status}");
    let phrase = &status["HTTP/1.1 403 ".len()..];
    assert!(phrase.len() <= 200 && phrase.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{phrase}");
}

/// A range of a blob, as requested by clients after an interruption.
#[test]
fn blob_downloads_can_be_resumed() {
    let world = World::new();
    let layer = world.admitted.blobs.last().expect("a layer").clone();
    Curl.pull(&world, &world.admitted).bytes();
    let path = format!("admitted/app/blobs/{layer}");
    let whole = Curl::request(&world, &["--fail"], &path).run().bytes();
    let rest = Curl::request(&world, &["--fail", "--range", "1000-"], &path).run().bytes();
    assert!(rest == whole[1000..], "the rest of the blob differs");
}

/// Nobody can push through the gate.
#[test]
fn pushes_are_refused() {
    let mut world = World::new();
    let options = ["--request", "POST", "--output", "/dev/null", "--write-out", "%{http_code}"];
    let status = Curl::request(&world, &options, "admitted/app/blobs/uploads/").run().text();
    assert_eq!(status, "405");
    assert_eq!(world.upstream.requests(), []);
}
