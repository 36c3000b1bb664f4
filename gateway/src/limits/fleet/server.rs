//! The Valkey or Redis server of a fleet: where it is, a connection to it, and what its failures
//! mean.

use std::error::Error as _;
use std::fmt;
use std::io;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ErrorKind, IntoConnectionInfo as _, Pipeline,
    RedisConnectionInfo, RedisError, RedisResult, ServerErrorKind, TlsCertificates, Value,
};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::tls::words;

/// Timeout of connecting, TLS and login included.
pub(super) const CONNECT: Duration = Duration::from_secs(1);
/// Timeout of an answer.
pub(super) const ANSWER: Duration = Duration::from_millis(100);

/// A server, or a node of a cluster.
#[derive(Clone)]
pub struct Server {
    /// Name or address, without the brackets of IPv6.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Number of the database.
    pub database: i64,
    /// User; the server's default one if `None`.
    pub user: Option<String>,
    /// Password.
    pub password: Option<Zeroizing<String>>,
    /// TLS; `None` for a plain connection.
    pub tls: Option<ServerTls>,
    /// Whether it is a node of a cluster, which names the others.
    pub cluster: bool,
}

/// TLS to a server.
#[derive(Clone, Debug, Default)]
pub struct ServerTls {
    /// Certificates of its authorities in PEM; the system's if `None`.
    pub authorities: Option<Vec<u8>>,
}

/// A connection, which can be used by several at once.
#[derive(Clone)]
pub(super) enum Link {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

/// Why a server was of no use.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(super) enum Fault {
    /// No connection, or one that broke.
    #[error("{0}")]
    Unreachable(String),
    /// No answer in time.
    #[error("it did not answer in time")]
    Slow,
    /// It takes no writes now, and another address may: a replica, one that starts, or a cluster
    /// that is being repaired.
    #[error("it takes no writes now ({0})")]
    Elsewhere(String),
    /// It refuses the command.
    #[error("it refuses commands ({0})")]
    Refused(String),
    /// What is stored there is not ours.
    #[error("something else is stored there")]
    Foreign,
}

impl Server {
    /// Connects; resolves the name anew each time.
    pub(super) async fn connect(&self) -> Result<Link, Fault> {
        let connected = tokio::time::timeout(CONNECT, self.open()).await;
        connected
            .map_err(|_| Fault::Slow)?
            .map_err(|error| Fault::of(&error))
    }

    async fn open(&self) -> RedisResult<Link> {
        let address = match &self.tls {
            None => ConnectionAddr::Tcp(self.host.clone(), self.port),
            Some(_) => ConnectionAddr::TcpTls {
                host: self.host.clone(),
                port: self.port,
                insecure: false,
                tls_params: None,
            },
        };
        let mut login = RedisConnectionInfo::default().set_db(self.database);
        if let Some(user) = &self.user {
            login = login.set_username(user);
        }
        if let Some(password) = &self.password {
            login = login.set_password(password.as_str());
        }
        let info = address.into_connection_info()?.set_redis_settings(login);
        let certificates = self.tls.as_ref().map(|tls| TlsCertificates {
            client_tls: None,
            root_cert: tls.authorities.clone(),
        });
        if self.cluster {
            let mut builder = ClusterClient::builder([info])
                .connection_timeout(CONNECT)
                .response_timeout(ANSWER)
                .retries(1);
            if let Some(certificates) = certificates {
                builder = builder.certs(certificates);
            }
            let connection = builder.build()?.get_async_connection().await?;
            return Ok(Link::Cluster(connection));
        }
        let client = match certificates {
            Some(certificates) => Client::build_with_tls(info, certificates)?,
            None => Client::open(info)?,
        };
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(Some(ANSWER));
        let connection = client
            .get_multiplexed_async_connection_with_config(&config)
            .await?;
        Ok(Link::One(connection))
    }
}

impl Link {
    /// Whether the keys of one pipeline have to be those of one subject.
    pub(super) fn is_cluster(&self) -> bool {
        matches!(self, Self::Cluster(_))
    }

    /// Sends `commands` and returns an answer, or what was wrong with it, for each.
    pub(super) async fn ask(
        &mut self,
        commands: &mut Pipeline,
    ) -> Result<Vec<Result<Value, Fault>>, Fault> {
        commands.ignore_errors();
        let asked = async {
            match self {
                Self::One(connection) => commands.query_async(connection).await,
                Self::Cluster(connection) => commands.query_async(connection).await,
            }
        };
        let answers: RedisResult<Vec<RedisResult<Value>>> =
            match tokio::time::timeout(ANSWER, asked).await {
                Ok(answers) => answers,
                Err(_) => return Err(Fault::Slow),
            };
        let answers = answers.map_err(|error| Fault::of(&error))?.into_iter();
        let answers = answers.map(|answer| answer.map_err(|error| Fault::of(&error)));
        Ok(answers.collect())
    }
}

impl Fault {
    /// Whether the connection is of no more use.
    pub(super) fn ends_link(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Slow | Self::Elsewhere(_) => true,
            Self::Refused(_) | Self::Foreign => false,
        }
    }

    /// In our words: the library's may repeat what was sent.
    fn of(error: &RedisError) -> Self {
        let io = error
            .source()
            .and_then(|source| source.downcast_ref::<io::Error>());
        match error.kind() {
            _ if error.is_timeout() => Self::Slow,
            ErrorKind::Io => Self::Unreachable(io.map_or_else(
                || "the connection broke".to_owned(),
                |error| format!("no connection: {}", words::of_handshake(error)),
            )),
            ErrorKind::ClusterConnectionNotFound => {
                Self::Unreachable("no connection to a node of the cluster".to_owned())
            }
            ErrorKind::AuthenticationFailed => {
                Self::Unreachable("it refuses the user or the password".to_owned())
            }
            ErrorKind::Server(
                ServerErrorKind::ReadOnly
                | ServerErrorKind::BusyLoading
                | ServerErrorKind::MasterDown
                | ServerErrorKind::ClusterDown
                | ServerErrorKind::TryAgain
                | ServerErrorKind::Moved
                | ServerErrorKind::Ask,
            ) => Self::Elsewhere(code(error)),
            ErrorKind::Server(_) | ErrorKind::Extension => match code(error).as_str() {
                "WRONGTYPE" => Self::Foreign,
                "NOAUTH" | "WRONGPASS" => {
                    Self::Unreachable("it wants a user and a password".to_owned())
                }
                code => Self::Refused(code.to_owned()),
            },
            _ => Self::Unreachable("it does not speak the protocol of Redis".to_owned()),
        }
    }
}

/// The server's word for the error, if it is one.
fn code(error: &RedisError) -> String {
    let code = error.code().unwrap_or("ERR");
    let is_word = code.len() <= 20 && code.bytes().all(|byte| byte.is_ascii_uppercase());
    if is_word { code } else { "ERR" }.to_owned()
}

impl fmt::Debug for Server {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("database", &self.database)
            .field("user", &self.user)
            .field("tls", &self.tls.is_some())
            .field("cluster", &self.cluster)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Server {
    /// Host and port.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}
