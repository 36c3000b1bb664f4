//! Admin listener.

use std::io;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_http::Request;
use actix_server::Server;
use actix_service::{IntoServiceFactory as _, Service, ServiceFactory as _, fn_factory};
use actix_web::dev::{AppConfig, ServiceResponse};
use actix_web::{App, Error, web};

use crate::admin::metrics::MetricsPage;
use crate::admin::{self, Gate, Operations, Refused};
use crate::app::data_plane::DataPlane;
use crate::app::listener::{Front, close_with};
use crate::app::parts::ADMIN_LIMITS;
use crate::config::settings::Settings;
use crate::front::client_stream::ClientGuard;
use crate::front::listener::{self, Versions};
use crate::http::request_id::RequestIds;
use crate::leaks::public_keys::{GithubKeys, KeySource};

/// Timeout of a TLS handshake with the admin listener.
const ADMIN_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(3);

/// How long running requests may take to finish once the public listener has stopped.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(3);

/// What the operations of the listener work with.
#[derive(Clone)]
struct Parts {
    operations: web::Data<Operations>,
    page: web::Data<MetricsPage>,
    github_keys: Option<KeySource>,
    /// Answers forward-auth subrequests.
    forward_auth: DataPlane,
}

impl Parts {
    /// Builds the API of one worker behind its gate.
    async fn serve(
        self,
    ) -> Result<Rc<Gate<impl Service<Request, Response = ServiceResponse, Error = Error>>>, ()>
    {
        let (operations, refused) = (self.operations.clone(), self.refused());
        let api = App::new()
            .app_data(Rc::new(self.forward_auth.worker()))
            .app_data(Rc::new(GithubKeys::new(self.github_keys)))
            .app_data(self.operations)
            .app_data(self.page)
            .configure(admin::routes);
        let api = api.into_factory().new_service(AppConfig::default()).await?;
        Ok(Rc::new(Gate::before(api, operations, refused)))
    }

    fn refused(&self) -> Arc<Refused> {
        Arc::clone(&self.page.refused)
    }

    fn guard(&self, room: usize) -> ClientGuard {
        let (refused, ids) = (self.refused(), RequestIds::new());
        ClientGuard::new(ADMIN_LIMITS)
            .with_room_for(room)
            .refusing_by(move |client| refused.refuse(client, &ids))
    }
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
    let parts = Parts {
        operations: web::Data::new(operations),
        page: web::Data::new(page),
        github_keys: settings.github_keys.clone(),
        forward_auth,
    };
    let room = settings.admin.max_connections;
    let builder = Server::build()
        .workers(1)
        .max_concurrent_connections(room.saturating_add(1))
        .shutdown_timeout(DRAIN_TIMEOUT.as_secs())
        .disable_signals();
    let draining = builder.graceful_shutdown_signal();
    let begin = move || {
        let guard = parts.guard(room);
        close_with(&guard, &draining);
        (guard, parts.clone().serve())
    };
    let builder = match front {
        Front::Plain => builder.listen("admin", listener, move || {
            let begin = begin.clone();
            fn_factory(move || {
                let (guard, serving) = begin();
                async move {
                    let service = listener::plain(guard, serving.await?, Versions::HTTP_1_1);
                    service.new_service(()).await
                }
            })
        })?,
        Front::Tls(acceptor) => builder.listen("admin", listener, move || {
            let (begin, acceptor) = (begin.clone(), acceptor.clone());
            fn_factory(move || {
                let (guard, serving) = begin();
                let acceptor = acceptor.clone();
                async move {
                    let service = listener::tls(
                        guard,
                        acceptor,
                        ADMIN_HANDSHAKE_TIMEOUT,
                        serving.await?,
                        Versions::HTTP_1_1,
                    );
                    service.new_service(()).await
                }
            })
        })?,
    };
    Ok(builder.run())
}
