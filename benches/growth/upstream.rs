//! A registry that makes every image from its number: it answers for any number of images and stores none of them.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use pullgate::oci::Digest;
use pullgate::runtime::Tasks;
use tokio::net::TcpListener;

/// How many tags each repository has.
const TAGS: usize = 100;
/// The name of the upstream's threads.
pub(crate) const THREAD: &str = "upstream";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// The path of image `number` below `/v2/`, and below the upstream's name at the gate.
pub(crate) fn path(number: usize) -> String {
    format!("team-{}/app/manifests/v{}", number / TAGS, number % TAGS)
}

/// The manifest of image `number`: a configuration and a layer that no other image has, and a layer that all share.
fn manifest(number: usize) -> Bytes {
    let descriptor = |media_type: &str, digest: Digest, size: usize| {
        format!(r#"{{"mediaType":"{media_type}","digest":"{digest}","size":{size}}}"#)
    };
    let (config, layer, base) = (config(number), layer(number), layer(usize::MAX));
    let of = |media_type, bytes: &Bytes| descriptor(media_type, Digest::sha256(bytes), bytes.len());
    let text = format!(
        r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{},"layers":[{},{}],"annotations":{{"org.opencontainers.image.title":"image {number}","org.example.filler":"{}"}}}}"#,
        of(CONFIG, &config),
        of(LAYER, &base),
        of(LAYER, &layer),
        "x".repeat(600),
    );
    text.into()
}

fn config(number: usize) -> Bytes {
    format!(r#"{{"architecture":"amd64","os":"linux","author":"{number}"}}"#).into()
}

fn layer(number: usize) -> Bytes {
    format!("layer {number}").repeat(40).into()
}

/// The registry, listening on loopback with one thread.
pub(crate) struct Upstream {
    pub(crate) url: String,
    _runtime: tokio::runtime::Runtime,
}

/// Which image a digest names. Only the names of what was asked for by tag: some bytes for each image.
type Numbers = Arc<Mutex<HashMap<Digest, u32>>>;

impl Upstream {
    pub(crate) fn start() -> Self {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).thread_name(THREAD).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (tasks, numbers) = (Tasks::new(), Numbers::default());
        let accept = async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                let numbers = numbers.clone();
                let service = service_fn(move |request| {
                    let answer = answer(&request, &numbers);
                    async move { Ok::<_, Infallible>(answer) }
                });
                tasks.spawn(async move {
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        };
        runtime.spawn(accept);
        Self { url, _runtime: runtime }
    }
}

fn answer(request: &Request<Incoming>, numbers: &Numbers) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    let found = path.strip_prefix("/v2/").and_then(|path| path.split_once("/manifests/"));
    let number = found.and_then(|(repository, reference)| match reference.parse::<Digest>() {
        Ok(digest) => numbers.lock().unwrap().get(&digest).map(|number| *number as usize),
        Err(_) => {
            let team: usize = repository.strip_prefix("team-")?.strip_suffix("/app")?.parse().ok()?;
            let tag: usize = reference.strip_prefix('v')?.parse().ok()?;
            Some(team * TAGS + tag)
        }
    });
    let status = |status| Response::builder().status(status).body(Full::default()).unwrap();
    let Some(number) = number else {
        return status(if path == "/v2/" { StatusCode::OK } else { StatusCode::NOT_FOUND });
    };
    let bytes = manifest(number);
    let digest = Digest::sha256(&bytes);
    numbers.lock().unwrap().insert(digest, u32::try_from(number).unwrap());
    let head = Response::builder()
        .header(header::CONTENT_TYPE, MANIFEST)
        .header(header::CONTENT_LENGTH, bytes.len())
        .header("docker-content-digest", digest.to_string());
    let body = if request.method() == Method::HEAD { Bytes::new() } else { bytes };
    head.body(Full::new(body)).unwrap()
}
