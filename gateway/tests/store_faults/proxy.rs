//! A network between the gateway and its database, which can lose what is sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// Everything arrives.
const PASS: u8 = 0;
/// Nothing arrives, and nobody is told.
const HOLE: u8 = 1;
/// As a hole, from the next commit on, which does not arrive either.
const HOLE_AT_COMMIT: u8 = 2;
/// The next commit arrives, and its answer does not: the connection breaks.
const CUT_AFTER_COMMIT: u8 = 3;

/// Takes connections, and passes what is sent on to a server.
#[derive(Clone)]
pub(crate) struct Network {
    pub(crate) port: u16,
    mode: Arc<AtomicU8>,
    fell_in: Arc<Notify>,
}

impl Network {
    /// Between a client and the server at `port`.
    pub(crate) async fn before(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let network = Self {
            port: listener.local_addr().unwrap().port(),
            mode: Arc::default(),
            fell_in: Arc::default(),
        };
        let (taking, mode) = (network.clone(), Arc::clone(&network.mode));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else {
                    continue;
                };
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                tokio::spawn(taking.clone().there(from_client, to_server));
                tokio::spawn(back(Arc::clone(&mode), from_server, to_client));
            }
        });
        network
    }

    pub(crate) fn loses_everything(&self) {
        self.mode.store(HOLE, Ordering::SeqCst);
    }

    pub(crate) fn loses_everything_from_the_next_commit_on(&self) {
        self.mode.store(HOLE_AT_COMMIT, Ordering::SeqCst);
    }

    pub(crate) fn cuts_after_the_next_commit(&self) {
        self.mode.store(CUT_AFTER_COMMIT, Ordering::SeqCst);
    }

    pub(crate) fn passes_everything(&self) {
        self.mode.store(PASS, Ordering::SeqCst);
    }

    /// Until the commit was met.
    pub(crate) async fn until_the_commit(&self) {
        self.fell_in.notified().await;
    }

    async fn there(self, mut client: OwnedReadHalf, mut server: OwnedWriteHalf) {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(read @ 1..) = client.read(&mut buffer).await {
            let sent = &buffer[..read];
            let commits = sent.windows(7).any(|window| window == b"COMMIT\0");
            let mode = self.mode.load(Ordering::SeqCst);
            if commits && mode == HOLE_AT_COMMIT {
                self.mode.store(HOLE, Ordering::SeqCst);
                self.fell_in.notify_one();
            }
            if matches!(self.mode.load(Ordering::SeqCst), HOLE) {
                continue;
            }
            if server.write_all(sent).await.is_err() {
                return;
            }
        }
        if self.mode.load(Ordering::SeqCst) == HOLE {
            // The server does not hear of the end either.
            std::future::pending::<()>().await;
        }
    }
}

async fn back(mode: Arc<AtomicU8>, mut server: OwnedReadHalf, mut client: OwnedWriteHalf) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(read @ 1..) = server.read(&mut buffer).await {
        match mode.load(Ordering::SeqCst) {
            HOLE => continue,
            // The tag of the command that is complete.
            CUT_AFTER_COMMIT if buffer[..read].windows(7).any(|tag| tag == b"COMMIT\0") => return,
            _ => {}
        }
        if client.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
