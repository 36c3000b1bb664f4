//! Real load balancers that forward bytes, and clients at other addresses than they.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use socket2::{Domain, Socket, Type};
use tempfile::TempDir;

use crate::client::Connection;
use crate::postgres::free_port;
use crate::running::eventually;

/// A load balancer that runs until it is dropped.
pub(crate) struct Balancer {
    pub(crate) address: SocketAddr,
    child: Child,
    _directory: TempDir,
}

impl Balancer {
    /// HAProxy with this after the name of its only server.
    pub(crate) fn haproxy(server: &str) -> Self {
        Self::start("haproxy", &["-db", "-f"], |address, _| {
            format!(
                "global\n  maxconn 100\ndefaults\n  mode tcp\n  timeout connect 10s\n  timeout check 30s\n  timeout client 30s\n  timeout server 30s\n\
                 listen front\n  bind {address}\n  server gateway {server}\n"
            )
        })
    }

    /// HAProxy as docs/OPERATE.md sets it up, but that it asks `gateway` for `path` every 100 ms.
    pub(crate) fn haproxy_that_checks(path: &str, gateway: SocketAddr) -> Self {
        Self::start("haproxy", &["-db", "-f"], |address, _| {
            format!(
                "global\n  maxconn 100\ndefaults\n  mode http\n  timeout connect 10s\n  timeout check 30s\n  timeout client 30s\n  timeout server 30s\n\
                 listen front\n  bind {address}\n  option forwardfor\n  option httpchk\n\
                 \x20 http-check send meth GET uri {path} ver HTTP/1.1 hdr Host gateway\n  http-check expect status 200\n\
                 \x20 server gateway {gateway} check inter 100ms fall 2 rise 1\n"
            )
        })
    }

    /// nginx's stream module, which announces its clients to `gateway`.
    pub(crate) fn nginx(gateway: SocketAddr) -> Self {
        let program = "/usr/sbin/nginx";
        let program = if Path::new(program).exists() {
            program
        } else {
            "nginx"
        };
        Self::start(program, &["-e", "stderr", "-c"], |address, folder| {
            let folder = folder.display();
            format!(
                "load_module /usr/lib/nginx/modules/ngx_stream_module.so;\n\
                 daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;\nevents {{}}\n\
                 stream {{ server {{ listen {address}; proxy_pass {gateway}; proxy_protocol on; }} }}\n"
            )
        })
    }

    fn start(
        program: &str,
        arguments: &[&str],
        configuration: impl Fn(SocketAddr, &Path) -> String,
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let file = directory.path().join("configuration");
        std::fs::write(&file, configuration(address, directory.path())).unwrap();
        let child = Command::new(program)
            .args(arguments)
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{program} (tests/prepare.sh rust): {error}"));
        let balancer = Self {
            address,
            child,
            _directory: directory,
        };
        eventually("the load balancer listens", || {
            TcpStream::connect(address).is_ok()
        });
        balancer
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A connection from this address of loopback.
pub(crate) fn from(source: [u8; 4], address: SocketAddr) -> Connection {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let source = SocketAddr::from((Ipv4Addr::from(source), 0));
    socket.bind(&source.into()).unwrap();
    socket.connect(&address.into()).unwrap();
    Connection::over(TcpStream::from(socket))
}
