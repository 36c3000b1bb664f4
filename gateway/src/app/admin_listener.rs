//! Admin listener.

use std::io;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_http::{HttpService, KeepAlive};
use actix_rt::net::TcpStream;
use actix_server::Server;
use actix_service::{IntoServiceFactory as _, ServiceFactoryExt as _, map_config};
use actix_web::dev::AppConfig;
use actix_web::middleware::from_fn;
use actix_web::{App, web};

use crate::admin::metrics::MetricsPage;
use crate::admin::{self, Operations};
use crate::app::data_plane::DataPlane;
use crate::app::listener::{DISCONNECT_TIMEOUT, Front};
use crate::app::parts::ADMIN_LIMITS;
use crate::config::settings::Settings;
use crate::front::client_stream::{ClientGuard, ClientStream};
use crate::http::request_id::RequestIds;
use crate::leaks::public_keys::GithubKeys;
use crate::tls::socket::TlsSocket;

/// Timeout of a TLS handshake with the admin listener.
const ADMIN_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(3);

/// Builds the admin service over guarded streams of one kind of socket.
macro_rules! admin_service {
    ($app:ident, $socket:ty) => {
        HttpService::build()
            .keep_alive(KeepAlive::Os)
            .client_request_timeout(Duration::ZERO)
            .client_disconnect_timeout(DISCONNECT_TIMEOUT)
            .on_connect_ext(|client: &ClientStream<$socket>, data| {
                data.insert(client.control());
            })
            .finish(map_config(
                $app()
                    .into_factory()
                    .map_err(|error: actix_web::Error| error.error_response()),
                |()| AppConfig::default(),
            ))
    };
}

/// Serves operators; `forward_auth` answers forward-auth subrequests.
pub(super) fn serve_admin(
    listener: TcpListener,
    settings: &Settings,
    front: Front,
    operations: Operations,
    page: MetricsPage,
    forward_auth: DataPlane,
) -> io::Result<Server> {
    let refused = web::Data::from(Arc::clone(&page.refused));
    let (faults, github_keys) = (Arc::clone(&page.refused), settings.github_keys.clone());
    let (operations, page) = (web::Data::new(operations), web::Data::new(page));
    let app = move || {
        App::new()
            .app_data(Rc::new(forward_auth.worker()))
            .app_data(Rc::new(GithubKeys::new(github_keys.clone())))
            .app_data(operations.clone())
            .app_data(page.clone())
            .app_data(refused.clone())
            .wrap(from_fn(admin::gate))
            .configure(admin::routes)
    };
    let room = settings.admin.max_connections;
    let guard = move || {
        let (faults, ids) = (Arc::clone(&faults), RequestIds::new());
        ClientGuard::new(ADMIN_LIMITS)
            .with_room_for(room)
            .refusing_by(move |refused| faults.refuse(refused, &ids))
    };
    let builder = Server::build()
        .workers(1)
        .max_concurrent_connections(room.saturating_add(1))
        .disable_signals();
    let builder = match front {
        Front::Plain => builder.listen("admin", listener, move || {
            guard().accept().and_then(admin_service!(app, TcpStream))
        })?,
        Front::Tls(acceptor) => builder.listen("admin", listener, move || {
            let accept = guard().accept_tls(acceptor.clone(), ADMIN_HANDSHAKE_TIMEOUT);
            accept.and_then(admin_service!(app, TlsSocket))
        })?,
    };
    Ok(builder.run())
}
