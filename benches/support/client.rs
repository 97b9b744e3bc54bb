//! Clients that pull manifests over connections that stay open, one thread each.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How many connections pull at the same time.
const CONNECTIONS: usize = 48;
/// A gate that says nothing for so long has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a round of pulls was like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Round {
    /// Pulls a second, over all connections.
    pub(crate) rate: f64,
    /// The time that 99 of 100 pulls stay below.
    pub(crate) p99: Duration,
}

/// Pulls `count` manifests; `choose` gives the path of each below `/v2/up.test/`.
pub(crate) fn pull(address: &str, count: usize, choose: impl Fn(usize) -> String + Sync) -> Round {
    let (next, began) = (AtomicUsize::new(0), Instant::now());
    let work = || {
        let mut connection = Connection::open(address).unwrap();
        let mut times = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return times;
            }
            let (path, asked) = (choose(number), Instant::now());
            connection.get(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
            times.push(asked.elapsed());
        }
    };
    let mut times: Vec<Duration> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..CONNECTIONS).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let seconds = began.elapsed().as_secs_f64();
    times.sort_unstable();
    Round { rate: count as f64 / seconds, p99: times[times.len() * 99 / 100] }
}

/// A connection that stays open.
pub(crate) struct Connection {
    stream: TcpStream,
    address: String,
    buffer: Vec<u8>,
}

impl Connection {
    pub(crate) fn open(address: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { stream, address: address.to_owned(), buffer: vec![0; 64 * 1024] })
    }

    /// Pulls a manifest or a blob and throws it away.
    pub(crate) fn get(&mut self, path: &str) -> io::Result<()> {
        let request = format!(
            "GET /v2/up.test/{path} HTTP/1.1\r\nhost: {}\r\naccept: application/vnd.oci.image.manifest.v1+json\r\n\r\n",
            self.address
        );
        self.stream.write_all(request.as_bytes())?;
        let mut filled = 0;
        let end = loop {
            filled += self.read(filled)?;
            if let Some(at) = self.buffer[..filled].windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
        };
        let head = String::from_utf8_lossy(&self.buffer[..end]).to_lowercase();
        if !head.starts_with("http/1.1 200") {
            return Err(io::Error::other(head.lines().next().unwrap_or_default().to_owned()));
        }
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
        let length: usize = length.and_then(|length| length.trim().parse().ok()).unwrap_or_default();
        let mut left = (end + length).saturating_sub(filled);
        while left > 0 {
            left = left.saturating_sub(self.read(0)?);
        }
        Ok(())
    }

    fn read(&mut self, filled: usize) -> io::Result<usize> {
        match self.stream.read(&mut self.buffer[filled..])? {
            0 => Err(io::Error::other("closed in the middle of an answer")),
            read => Ok(read),
        }
    }
}
