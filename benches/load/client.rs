//! Clients that read blobs and discard them, one thread each, so that the measurement covers mainly the servers.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::{RecvFlags, recv};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

/// The size of a read, in bytes.
const BUFFER: usize = 256 * 1024;
/// The time limit for a silent server.
const TIME_LIMIT: Duration = Duration::from_secs(120);

/// The `Accept` header of every client; older registries serve OCI manifests only to clients that name the type.
pub(crate) const ACCEPT: &str = "application/vnd.oci.image.manifest.v1+json, */*";

/// How bodies are read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Reading {
    /// Discarded in the kernel (`MSG_TRUNC`), at almost no cost to the client.
    Discarded,
    /// Copied, as in a real client.
    Copied,
}

/// How to reach a server.
#[derive(Clone)]
pub(crate) struct Place {
    /// `127.0.0.1:PORT`.
    pub(crate) address: String,
    /// The TLS configuration, if TLS is used.
    pub(crate) tls: Option<Arc<ClientConfig>>,
}

/// The timing of one download.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Download {
    pub(crate) first_byte: Duration,
    pub(crate) bytes: u64,
}

/// Starts all clients at the same moment; each downloads `times` over one connection. Returns each client's first
/// download, and the total duration.
pub(crate) fn crowd(
    place: &Place,
    path: &str,
    clients: usize,
    times: usize,
    reading: Reading,
) -> io::Result<(Vec<Download>, Duration)> {
    let start = Arc::new(Barrier::new(clients + 1));
    let threads: Vec<_> = (0..clients)
        .map(|_| {
            let (place, path, start) = (place.clone(), path.to_owned(), start.clone());
            let work = move || {
                let connection = Connection::open(&place);
                start.wait();
                let mut connection = connection?;
                let first = connection.get(&path, reading)?;
                for _ in 1..times {
                    connection.get(&path, reading)?;
                }
                Ok(first)
            };
            thread::Builder::new().stack_size(512 * 1024).spawn(work).unwrap()
        })
        .collect();
    start.wait();
    let began = Instant::now();
    let downloads: io::Result<Vec<Download>> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    Ok((downloads?, began.elapsed()))
}

/// Downloads once.
pub(crate) fn get(place: &Place, path: &str) -> io::Result<Download> {
    Connection::open(place)?.get(path, Reading::Discarded)
}

/// Opens connections that send a request and never read.
pub(crate) fn stalled(place: &Place, path: &str, clients: usize) -> io::Result<Vec<TcpStream>> {
    let ask = |_| {
        let mut stream = TcpStream::connect(&place.address)?;
        stream.write_all(request(&place.address, path).as_bytes())?;
        Ok(stream)
    };
    (0..clients).map(ask).collect()
}

enum Connection {
    Plain(String, TcpStream),
    Tls(String, Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Connection {
    fn open(place: &Place) -> io::Result<Self> {
        let stream = TcpStream::connect(&place.address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIME_LIMIT))?;
        let address = place.address.clone();
        let Some(config) = &place.tls else { return Ok(Self::Plain(address, stream)) };
        let name = ServerName::try_from("localhost").unwrap();
        let session = ClientConnection::new(config.clone(), name).map_err(io::Error::other)?;
        Ok(Self::Tls(address, Box::new(StreamOwned::new(session, stream))))
    }

    fn get(&mut self, path: &str, reading: Reading) -> io::Result<Download> {
        let began = Instant::now();
        let mut buffer = vec![0; BUFFER];
        match self {
            Self::Plain(address, stream) => {
                stream.write_all(request(address, path).as_bytes())?;
                let (length, have, first_byte) = head(stream, &mut buffer, began)?;
                let mut left = length - have;
                while left > 0 {
                    let wanted = usize::try_from(left).unwrap_or(BUFFER).min(BUFFER);
                    let flags = if reading == Reading::Discarded { RecvFlags::TRUNC } else { RecvFlags::empty() };
                    let (_, read) = recv(&*stream, &mut buffer[..wanted], flags)?;
                    left = rest(left, read)?;
                }
                Ok(Download { first_byte, bytes: length })
            }
            Self::Tls(address, stream) => {
                stream.write_all(request(address, path).as_bytes())?;
                let (length, have, first_byte) = head(stream, &mut buffer, began)?;
                let mut left = length - have;
                while left > 0 {
                    let wanted = usize::try_from(left).unwrap_or(BUFFER).min(BUFFER);
                    left = rest(left, stream.read(&mut buffer[..wanted])?)?;
                }
                Ok(Download { first_byte, bytes: length })
            }
        }
    }
}

fn rest(left: u64, read: usize) -> io::Result<u64> {
    match read {
        0 => Err(io::Error::other(format!("cut with {left} bytes left"))),
        read => Ok(left - read as u64),
    }
}

fn request(address: &str, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: {address}\r\naccept: {ACCEPT}\r\n\r\n")
}

/// Reads the response headers: the length of the body, how much of it has been read, and when its first byte arrived.
fn head(stream: &mut impl Read, buffer: &mut [u8], began: Instant) -> io::Result<(u64, u64, Duration)> {
    let mut filled = 0;
    let mut end = None;
    loop {
        if let Some(end) = end.filter(|end| filled > *end) {
            return parse(&buffer[..end]).map(|length| (length, (filled - end) as u64, began.elapsed()));
        }
        // Reads a little at a time, so that most of the body is left to be discarded.
        let room = buffer.len().min(filled + 4096);
        let read = stream.read(&mut buffer[filled..room])?;
        if read == 0 {
            return Err(io::Error::other("closed before an answer"));
        }
        filled += read;
        end = end.or_else(|| buffer[..filled].windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4));
    }
}

fn parse(head: &[u8]) -> io::Result<u64> {
    let text = String::from_utf8_lossy(head).to_lowercase();
    if !text.starts_with("http/1.1 200") {
        return Err(io::Error::other(format!("answered {}", text.lines().next().unwrap_or_default())));
    }
    let length = text.lines().find_map(|line| line.strip_prefix("content-length:"));
    length.and_then(|length| length.trim().parse().ok()).ok_or_else(|| io::Error::other("no content-length"))
}
