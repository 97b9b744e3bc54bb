//! The answer to clients that speak HTTP without TLS to a listener with TLS.

use std::io;

use tokio::io::AsyncWriteExt as _;

use super::send_file::SendFile;
use super::stream::WriteStall;

const ANSWER: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 64\r\n\
    Connection: close\r\n\r\npullgate: this port expects TLS; write https:// instead of http\n";

/// Passes on a connection that can be one with TLS. A client that speaks HTTP without TLS gets an answer that says so:
/// a method begins with a capital letter, a TLS record with the byte 22.
///
/// # Errors
/// The client speaks HTTP without TLS, or the connection failed.
pub(super) async fn refuse_plain_http(mut stream: WriteStall<SendFile>) -> io::Result<WriteStall<SendFile>> {
    let mut first = [0];
    stream.get_ref().peek(&mut first).await?;
    if !first[0].is_ascii_uppercase() {
        return Ok(stream);
    }
    stream.write_all(ANSWER).await?;
    stream.shutdown().await?;
    Err(io::Error::new(io::ErrorKind::InvalidData, "the client speaks HTTP without TLS"))
}
