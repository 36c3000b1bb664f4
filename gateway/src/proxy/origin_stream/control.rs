//! What is known of a connection besides its bytes, and who else may know it.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    net::SocketAddr,
    rc::{Rc, Weak},
};

use http::uri::Authority;

use super::{OriginLimits, Upload};

/// One connection as its user sees it.
#[derive(Debug, Default)]
pub struct OriginControl {
    remote: Option<SocketAddr>,
    exchanges: Cell<u32>,
    upload: RefCell<Option<Upload>>,
    retired: Cell<bool>,
    whole_head: Cell<Option<usize>>,
    limits: Cell<Option<OriginLimits>>,
    membership: Option<Membership>,
}

#[derive(Debug)]
struct Membership {
    registry: Rc<OriginRegistry>,
    generation: Rc<Cell<u64>>,
    joined_in: u64,
}

impl OriginControl {
    /// A connection to `remote` that belongs to no pool.
    pub fn new(remote: Option<SocketAddr>) -> Self {
        Self {
            remote,
            ..Self::default()
        }
    }

    /// A connection to `remote` that is to serve requests to `authority` from a pool.
    pub fn pooled(
        remote: SocketAddr,
        registry: &Rc<OriginRegistry>,
        authority: &Authority,
    ) -> Self {
        let generation = registry.generation(authority);
        let joined_in = generation.get();
        let membership = Membership {
            registry: Rc::clone(registry),
            generation,
            joined_in,
        };
        Self {
            remote: Some(remote),
            membership: Some(membership),
            ..Self::default()
        }
    }

    /// The address the connection leads to, where it is known.
    pub fn remote(&self) -> Option<SocketAddr> {
        self.remote
    }

    /// How many requests were begun on the connection.
    pub fn exchanges(&self) -> u32 {
        self.exchanges.get()
    }

    /// Gives the exchange to come a body, which goes out while its answer is read. Whoever writes
    /// the head of the request says nothing of it there, and writes nothing more: the stream
    /// announces it.
    pub fn carry(&self, upload: Upload) {
        self.upload.replace(Some(upload));
    }

    /// Holds the exchange to come, or the present one, to other limits than those of the
    /// connection.
    pub fn set_limits(&self, limits: OriginLimits) {
        self.limits.set(Some(limits));
    }

    /// Whether what was read last is a whole answer, head and body, from its first byte on, that
    /// has a length and is as it came; gives the length of its head.
    pub fn take_whole_head(&self) -> Option<usize> {
        self.whole_head.take()
    }

    /// Takes the connection out of use once the present exchange is over.
    pub fn retire(&self) {
        self.retired.set(true);
    }

    /// Whether no further exchange may begin.
    pub fn is_retired(&self) -> bool {
        self.retired.get()
            || self
                .membership
                .as_ref()
                .is_some_and(|member| member.generation.get() != member.joined_in)
    }

    pub(super) fn count_exchange(&self) {
        self.exchanges.set(self.exchanges.get().saturating_add(1));
    }

    pub(super) fn limits(&self, default: OriginLimits) -> OriginLimits {
        self.limits.get().unwrap_or(default)
    }

    pub(super) fn note_whole_head(&self, length: usize) {
        self.whole_head.set(Some(length));
    }

    pub(super) fn end_exchange(&self) {
        self.limits.set(None);
    }

    pub(super) fn take_upload(&self) -> Option<Upload> {
        self.upload.take()
    }

    /// Leaves word that this is the connection which the pool gives out now.
    pub(crate) fn hand_out(this: &Rc<Self>) {
        if let Some(member) = &this.membership {
            *member.registry.handed_out.borrow_mut() = Rc::downgrade(this);
        }
    }
}

/// What the connections of one pool share.
///
/// The pool of awc neither says which connection it gives out nor takes any back on request; both
/// go through here.
#[derive(Debug, Default)]
pub struct OriginRegistry {
    handed_out: RefCell<Weak<OriginControl>>,
    generations: RefCell<HashMap<Authority, Rc<Cell<u64>>>>,
}

impl OriginRegistry {
    /// Takes all connections to `authority` out of use once their present exchanges are over: the
    /// next request to it opens a new connection.
    pub fn retire_all(&self, authority: &Authority) {
        let generation = self.generation(authority);
        generation.set(generation.get().wrapping_add(1));
    }

    /// The connection that the pool gave out last. Only right in the same poll in which it did.
    pub(crate) fn take_handed_out(&self) -> Option<Rc<OriginControl>> {
        self.handed_out.take().upgrade()
    }

    fn generation(&self, authority: &Authority) -> Rc<Cell<u64>> {
        if let Some(generation) = self.generations.borrow().get(authority) {
            return Rc::clone(generation);
        }
        Rc::clone(
            self.generations
                .borrow_mut()
                .entry(authority.clone())
                .or_default(),
        )
    }
}
