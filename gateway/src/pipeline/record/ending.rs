//! Writes the record of a request when it has ended.

use std::time::Duration;

use crate::auth::Proven;
use crate::http::refusal::Refusal;
use crate::keys::ConsumerId;
use crate::limits::quota::{Counted, Outcome};
use crate::pipeline::record::{CLIENT_LEFT, Exchange};
use crate::telemetry::access_log::{Ending, Entry};
use crate::wire::clock::since;

impl Exchange {
    /// How the request ended, for quotas.
    fn outcome(&self) -> Outcome {
        match (self.status, self.code) {
            _ if self.broke_off => Outcome::ClientLeft,
            // After it was sent, or while it was.
            (CLIENT_LEFT, None) if self.waits_since.is_some() => Outcome::ClientLeft,
            (CLIENT_LEFT, _) | (_, Some(_)) => Outcome::NotAnswered,
            (status, None) => Outcome::Answered(status),
        }
    }

    /// Time spent waiting for the origin without an answer; `None` where the client was waited for.
    pub(super) fn failed_origin_wait(&self) -> Option<Duration> {
        let is_sent = self.body.as_ref().is_none_or(|body| body.ended());
        self.waits_since.filter(|_| is_sent).map(since)
    }

    /// Adopts the response that the connection guard sent, or the fault for which it closed the
    /// connection.
    fn take_over_fault(&mut self) {
        let Some(client) = &self.arrival.client else {
            return;
        };
        if self.status == CLIENT_LEFT
            && self.code.is_none()
            && let Some(fault) = client.refused_request()
            && let Some(refusal) = Refusal::of_fault(fault)
        {
            self.broke_off = self.waits_since.take().is_some();
            self.status = fault.status().unwrap_or(CLIENT_LEFT);
            self.code = Some(refusal.code());
            self.ending = Ending::Complete;
            self.cause = Some(fault.to_string().into());
        } else if self.ending == Ending::ClientGone
            && let Some(fault) = client.fault()
        {
            self.cause.get_or_insert_with(|| fault.to_string().into());
        }
    }
}

/// What the access log shows of the holder of a credential.
#[derive(Default)]
struct Shown<'p> {
    consumer: Option<&'p str>,
    issuer: Option<&'p str>,
    key: Option<&'p str>,
}

impl<'p> Shown<'p> {
    fn of(proven: Option<&'p Proven>) -> Self {
        let consumer = proven.and_then(Proven::consumer).map(ConsumerId::as_str);
        match proven {
            None => Self::default(),
            Some(Proven::Key(key)) => Self {
                consumer,
                issuer: None,
                key: Some(key.id().as_str()),
            },
            Some(Proven::Token(holder)) => Self {
                consumer,
                issuer: Some(holder.token().issuer().name()),
                key: None,
            },
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.take_over_fault();
        let is_the_clients = self
            .arrival
            .client
            .as_ref()
            .is_some_and(|client| client.client_left() || client.fault().is_some());
        if self.ending == Ending::ClientGone && !is_the_clients && self.tally.cuts_off() {
            self.ending = Ending::TimeLimit;
            self.cause
                .get_or_insert_with(|| "it took longer than listen.drain_timeout".into());
        }
        if self.status == CLIENT_LEFT && self.origin_wait.is_none() {
            self.origin_wait = self.failed_origin_wait();
        }
        let counted = match &self.proven {
            Some(Proven::Key(key)) => Some(Counted::Key(key)),
            Some(Proven::Token(holder)) => holder.consumer().map(Counted::Consumer),
            None => None,
        };
        if let (Some(reserved), Some(counted)) = (&self.reserved, counted) {
            reserved.settle(counted, self.outcome());
        }
        let observed = self.observed.as_deref();
        let proven = self.proven.as_ref();
        let shown = Shown::of(proven.or_else(|| observed?.proven.as_ref()));
        let key = self.key().map(|key| *key.id());
        let entry = Entry {
            at: self.arrival.at,
            request_id: self.arrival.request_id.as_str(),
            client: self.arrival.address.client,
            method: self.arrival.method.as_str(),
            path: self.arrival.path.in_log(),
            status: self.status,
            code: self.code,
            cause: self.cause.as_deref(),
            route: self.route.as_deref().map(|route| &*route.name),
            consumer: shown.consumer,
            issuer: shown.issuer,
            key: shown.key,
            would_refuse: observed.map(|observed| (observed.code, &*observed.cause)),
            limit: self.limit.as_deref(),
            shadow_limit: self.shadow_limit.as_deref(),
            bytes_in: self.body.as_ref().map_or(0, |body| body.bytes()),
            bytes_out: self.bytes_out,
            duration: since(self.arrival.begun),
            origin_wait: self.origin_wait,
            ending: self.ending,
        };
        self.tally
            .ended(key, &entry, self.counted, self.stream.is_some());
        self.log.record(&entry);
    }
}
