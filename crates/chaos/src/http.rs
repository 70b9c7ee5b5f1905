//! HTTP/1.1 as far as the harness and its drill speak it: bodies with a length, one request after another.

use std::{
    fmt, io,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader},
    net::{TcpSocket, TcpStream},
};

use crate::node::Target;

const MAX_BODY: usize = 8 << 20;
/// A node that lives answers long before this; one that was killed breaks the connection.
const PATIENCE: Duration = Duration::from_secs(20);

/// A request or an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// `POST /runs HTTP/1.1` or `HTTP/1.1 200 OK`
    pub first: String,
    pub body: Vec<u8>,
}

/// A status and a body.
pub type Answer = (u16, Vec<u8>);

/// Whatever carries bytes both ways.
trait Stream: AsyncRead + AsyncWrite + Send + Sync + Unpin + fmt::Debug {}

impl<S: AsyncRead + AsyncWrite + Send + Sync + Unpin + fmt::Debug> Stream for S {}

#[derive(Debug)]
pub struct Connection {
    stream: BufReader<Box<dyn Stream>>,
    address: SocketAddr,
}

/// What is asked of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub method: &'static str,
    pub path: String,
    pub body: String,
    pub idempotency_key: Option<String>,
}

impl Connection {
    pub async fn open(target: &Target) -> io::Result<Self> {
        let address = target.address;
        let stream: Box<dyn Stream> = match &target.door {
            Some(door) => Box::new(door.connect(address).await?),
            None => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Box::new(stream)
            }
        };
        Ok(Self { stream: BufReader::new(stream), address })
    }

    /// From another address of loopback, so that the limit of one peer's connections is not everybody's.
    pub async fn open_from(source: Ipv4Addr, address: SocketAddr) -> io::Result<Self> {
        let stream = connect_from(source, address).await?;
        Ok(Self { stream: BufReader::new(Box::new(stream)), address })
    }

    /// The status and the body of the answer.
    pub async fn send(&mut self, request: &Request, token: &str) -> io::Result<Answer> {
        self.ask(request, token).await?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    /// The same; `None` when the other side closed the connection before it answered with a single byte.
    pub async fn ask(&mut self, request: &Request, token: &str) -> io::Result<Option<Answer>> {
        let Request { method, path, body, .. } = request;
        let address = self.address;
        let key = request.idempotency_key.as_ref().map(|key| format!("idempotency-key: {key}\r\n")).unwrap_or_default();
        let text = format!(
            "{method} {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n{key}\r\n{body}",
            body.len()
        );
        let exchange = async {
            let begun = async {
                self.stream.get_mut().write_all(text.as_bytes()).await?;
                self.stream.fill_buf().await.map(drop)
            };
            match begun.await {
                // What is sent to whoever has closed already is answered in this way.
                Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) => {
                    Ok(None)
                }
                Err(error) => Err(error),
                Ok(()) => read(&mut self.stream).await,
            }
        };
        let answer = tokio::time::timeout(PATIENCE, exchange).await.map_err(|_| io::ErrorKind::TimedOut)??;
        let Some(answer) = answer else { return Ok(None) };
        let status = answer.first.split(' ').nth(1).and_then(|status| status.parse().ok());
        Ok(Some((status.ok_or(io::ErrorKind::InvalidData)?, answer.body)))
    }
}

/// A connection from another address of loopback.
pub async fn connect_from(source: Ipv4Addr, address: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((source, 0).into())?;
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Reads one message; `None` when the other side has closed.
pub async fn read(stream: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<Message>> {
    let mut first = String::new();
    if stream.read_line(&mut first).await? == 0 {
        return Ok(None);
    }
    let mut length = 0;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().map_err(|_| io::ErrorKind::InvalidData)?;
        }
        if name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
    if length > MAX_BODY {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok(Some(Message { first: first.trim_end().to_owned(), body }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_message_is_read_with_its_body_and_no_further() {
        let mut bytes = &b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 503 Busy\r\n\r\n"[..];

        let first = read(&mut bytes).await.unwrap().unwrap();
        let second = read(&mut bytes).await.unwrap().unwrap();

        assert_eq!((first.first.as_str(), first.body.as_slice()), ("HTTP/1.1 200 OK", &b"ok"[..]));
        assert_eq!(second.first, "HTTP/1.1 503 Busy");
        assert_eq!(read(&mut bytes).await.unwrap(), None);
    }

    #[tokio::test]
    async fn half_an_answer_is_no_answer() {
        let mut bytes = &b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nok"[..];

        assert!(read(&mut bytes).await.is_err());
    }
}
