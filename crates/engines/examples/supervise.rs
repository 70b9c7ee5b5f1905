//! The part of the product's binary that the tests of this crate start: `supervise` and `scripted-engine`, and `reach`,
//! which tries to reach something by means that a shell does not have.

use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::time::Duration;

fn main() -> std::process::ExitCode {
    let mut args = std::env::args_os().skip(1);
    let code = match args.next().as_deref().and_then(std::ffi::OsStr::to_str) {
        Some("supervise") => engines::supervise::main(args),
        Some(engines::scripted::SUBCOMMAND) => engines::scripted::main(args),
        Some("reach") => {
            let args: Vec<String> = args.filter_map(|arg| arg.into_string().ok()).collect();
            i32::from(reach(&args).is_err())
        }
        Some(engines::acp::SUBCOMMAND) => engines::acp::main(args),
        _ => {
            eprintln!("usage: supervise SPEC | scripted-engine … | reach HOW WHERE [WHAT]");
            2
        }
    };
    std::process::ExitCode::from(u8::try_from(code).unwrap_or(1))
}

/// Says `WHAT` (or a greeting) to whoever listens there, and prints the answer.
fn reach(args: &[String]) -> std::io::Result<()> {
    let [how, place, rest @ ..] = args else { return Err(std::io::ErrorKind::InvalidInput.into()) };
    let what = rest.first().map_or("hello", String::as_str);
    let talk = |stream: &mut dyn ReadWrite| {
        stream.write_all(what.as_bytes())?;
        stream.write_all(b"\n")?;
        let mut answer = vec![0; 4096];
        let n = stream.read(&mut answer)?;
        std::io::stdout().write_all(&answer[..n])
    };
    match how.as_str() {
        "tcp" => {
            let mut stream = TcpStream::connect(place)?;
            stream.set_read_timeout(Some(Duration::from_secs(10)))?;
            talk(&mut stream)
        }
        "udp" => {
            let socket = UdpSocket::bind("127.0.0.1:0")?;
            socket.send_to(what.as_bytes(), place)?;
            socket.set_read_timeout(Some(Duration::from_millis(500)))?;
            let mut answer = [0; 512];
            let (n, _) = socket.recv_from(&mut answer)?;
            std::io::stdout().write_all(&answer[..n])
        }
        "unix" => talk(&mut UnixStream::connect(place)?),
        #[cfg(target_os = "linux")]
        "abstract" => {
            use std::os::linux::net::SocketAddrExt;
            let address = std::os::unix::net::SocketAddr::from_abstract_name(place)?;
            talk(&mut UnixStream::connect_addr(&address)?)
        }
        _ => Err(std::io::ErrorKind::InvalidInput.into()),
    }
}

trait ReadWrite: Read + Write {}
impl<T: Read + Write> ReadWrite for T {}
