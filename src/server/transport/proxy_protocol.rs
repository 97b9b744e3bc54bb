//! The PROXY protocol header (HAProxy's specification, versions 1 and 2). Reads exactly the header and nothing after
//! it.

use std::io;
use std::net::SocketAddr;

use ppp::HeaderResult;
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// The start of version 2; version 1 has at least this length.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Version 1: "107 bytes … enough to store all the line".
const V1_MAX: usize = 107;
/// Version 2: addresses and extensions, which are skipped.
const V2_MAX: usize = 4096;

/// Reads the header, and returns the address that connected to the proxy. `None` if the proxy itself is the client
/// (`LOCAL`, `UNKNOWN`).
///
/// # Errors
/// The stream ended, or does not start with a valid header.
pub(super) async fn read<IO: AsyncRead + Unpin>(io: &mut IO) -> io::Result<Option<SocketAddr>> {
    let mut header = vec![0; SIGNATURE.len()];
    io.read_exact(&mut header).await?;
    if header == SIGNATURE {
        read_v2(io, &mut header).await?;
    } else {
        read_v1(io, &mut header).await?;
    }
    match HeaderResult::parse(&header) {
        HeaderResult::V1(Ok(header)) => Ok(v1_source(&header.addresses)),
        HeaderResult::V2(Ok(header)) if header.command == ppp::v2::Command::Local => Ok(None),
        HeaderResult::V2(Ok(header)) => Ok(v2_source(&header.addresses)),
        HeaderResult::V1(Err(_)) | HeaderResult::V2(Err(_)) => Err(malformed()),
    }
}

async fn read_v2<IO: AsyncRead + Unpin>(io: &mut IO, header: &mut Vec<u8>) -> io::Result<()> {
    let mut rest = [0; 4];
    io.read_exact(&mut rest).await?;
    header.extend(rest);
    let length = usize::from(u16::from_be_bytes([rest[2], rest[3]]));
    if length > V2_MAX {
        return Err(malformed());
    }
    let start = header.len();
    header.resize(start + length, 0);
    io.read_exact(&mut header[start..]).await?;
    Ok(())
}

/// Reads byte by byte, so that nothing after the line is consumed.
async fn read_v1<IO: AsyncRead + Unpin>(io: &mut IO, header: &mut Vec<u8>) -> io::Result<()> {
    if !header.starts_with(b"PROXY ") {
        return Err(malformed());
    }
    while !header.ends_with(b"\n") {
        if header.len() == V1_MAX {
            return Err(malformed());
        }
        header.push(io.read_u8().await?);
    }
    Ok(())
}

fn v1_source(addresses: &ppp::v1::Addresses) -> Option<SocketAddr> {
    match addresses {
        ppp::v1::Addresses::Tcp4(tcp) => Some((tcp.source_address, tcp.source_port).into()),
        ppp::v1::Addresses::Tcp6(tcp) => Some((tcp.source_address, tcp.source_port).into()),
        ppp::v1::Addresses::Unknown => None,
    }
}

fn v2_source(addresses: &ppp::v2::Addresses) -> Option<SocketAddr> {
    match addresses {
        ppp::v2::Addresses::IPv4(ip) => Some((ip.source_address, ip.source_port).into()),
        ppp::v2::Addresses::IPv6(ip) => Some((ip.source_address, ip.source_port).into()),
        ppp::v2::Addresses::Unix(_) | ppp::v2::Addresses::Unspecified => None,
    }
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a trusted proxy sent no PROXY protocol header")
}
