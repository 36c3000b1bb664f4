//! Server-sent events: one at once, then one per second, until the client leaves or the server
//! stops.

use std::time::Duration;

use actix_rt::time::{Interval, interval};
use actix_web::{HttpResponse, web};
use bytes::Bytes;
use futures_util::stream;
use tokio::sync::watch;

/// Stop signal for endless responses; without it each would delay the stop until its deadline.
#[derive(Clone)]
pub(super) struct Stopping(watch::Receiver<bool>);

/// Sender of [`Stopping`].
pub(super) struct Stopper(watch::Sender<bool>);

impl Stopping {
    pub(super) fn channel() -> (Stopper, Self) {
        let (sender, receiver) = watch::channel(false);
        (Stopper(sender), Self(receiver))
    }

    /// Ready once the server stops, or if it has stopped already.
    pub(super) async fn stopped(&mut self) {
        // An error means that the sender is gone, and the server with it.
        let _ = self.0.wait_for(|stopping| *stopping).await;
    }
}

impl Stopper {
    pub(super) fn stop(&self) {
        self.0.send_replace(true);
    }
}

struct Ticks {
    number: u64,
    interval: Interval,
    stopping: Stopping,
}

pub(super) async fn events(stopping: web::Data<Stopping>) -> HttpResponse {
    let stopping = stopping.get_ref().clone();
    let ticks = Ticks {
        number: 0,
        interval: interval(Duration::from_secs(1)),
        stopping,
    };
    HttpResponse::Ok()
        .insert_header(("content-type", "text/event-stream"))
        .insert_header(("cache-control", "no-store"))
        .streaming(stream::unfold(ticks, next))
}

async fn next(mut ticks: Ticks) -> Option<(Result<Bytes, actix_web::Error>, Ticks)> {
    tokio::select! {
        _ = ticks.interval.tick() => {
            ticks.number += 1;
            let event = format!("id: {0}\nevent: tick\ndata: {{\"number\":{0}}}\n\n", ticks.number);
            Some((Ok(event.into()), ticks))
        }
        () = ticks.stopping.stopped() => None,
    }
}
