//! Listening, in the one way that all programs do it.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;

/// The address that `text` says. `:8000` is every address of both families, as `[::]:8000`.
#[must_use]
pub fn address(text: &str) -> Option<SocketAddr> {
    match text.strip_prefix(':') {
        Some(port) => Some(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port.parse().ok()?)),
        None => text.parse().ok(),
    }
}

/// Listens on `address`. `[::]` is every address of both families, whatever the machine's `bindv6only` says, or every
/// one of IPv4 where there is no IPv6.
///
/// # Errors
/// What the operating system says.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let everywhere = address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    let listener = match bind(address) {
        Err(error) if everywhere && lacks_ipv6(&error) => {
            bind(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port()))?
        }
        bound => bound?,
    };
    TcpListener::from_std(listener)
}

fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(address.ip() != IpAddr::V6(Ipv6Addr::UNSPECIFIED))?;
    }
    // A restart need not wait for connections of the process before.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Kernels without IPv6 know no such socket, machines where it is switched off no such address.
fn lacks_ipv6(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    [Errno::AFNOSUPPORT, Errno::ADDRNOTAVAIL].iter().any(|lack| Some(lack.raw_os_error()) == code)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;

    use super::*;

    #[test]
    fn a_port_alone_is_every_address() {
        assert_eq!(address(":8000").unwrap().to_string(), "[::]:8000");
        for same in ["0.0.0.0:8000", "127.0.0.1:0", "[::1]:8000"] {
            assert_eq!(address(same).unwrap().to_string(), same);
        }
        for none in ["", ":", "8000", ":x", ":70000", "fd00::5:8001", "localhost:8000", "::"] {
            assert_eq!(address(none), None, "{none}");
        }
    }

    #[tokio::test]
    async fn everywhere_is_both_families() {
        let listener = listen(address(":0").unwrap()).unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_ok());
        if listen(SocketAddr::new(Ipv6Addr::LOCALHOST.into(), 0)).is_ok() {
            assert!(TcpStream::connect((Ipv6Addr::LOCALHOST, port)).await.is_ok());
        }
        // One address is that address.
        let one = listen(address("127.0.0.1:0").unwrap()).unwrap();
        assert!(one.local_addr().unwrap().is_ipv4());
        assert_eq!(listen(one.local_addr().unwrap()).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn only_the_want_of_ipv6_is_made_up_for() {
        let error = |code: Errno| io::Error::from_raw_os_error(code.raw_os_error());
        assert!(lacks_ipv6(&error(Errno::AFNOSUPPORT)) && lacks_ipv6(&error(Errno::ADDRNOTAVAIL)));
        assert!(!lacks_ipv6(&error(Errno::ADDRINUSE)) && !lacks_ipv6(&error(Errno::ACCESS)));
    }
}
