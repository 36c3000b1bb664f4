//! What the guard of a connection and the handlers of its requests tell each other.

use std::{
    cell::{Cell, RefCell, RefMut},
    fmt,
    net::SocketAddr,
    rc::Rc,
};

use super::{
    ClientFault,
    raw::{Diversion, RawInput},
};
use crate::http::request_id::RequestId;

/// Told of the first fault of each connection.
pub(super) type Observer = dyn Fn(&ClientControl, ClientFault);

/// Gives the whole response to a client that no handler can answer, or none to close without a
/// word.
pub(super) type Refuser = dyn Fn(&Refused<'_>) -> Option<Vec<u8>>;

/// A client that no handler can answer, and that is let go.
#[derive(Debug)]
pub struct Refused<'a> {
    /// Its connection.
    pub client: &'a ClientControl,
    /// What it did.
    pub fault: ClientFault,
    /// Whether a request of its was passed on and its handler gave no answer.
    pub within_request: bool,
}

/// Who is told of faults, and who words the answers to them.
#[derive(Clone, Default)]
pub(super) struct Listeners {
    pub(super) observer: Option<Rc<Observer>>,
    pub(super) refuser: Option<Rc<Refuser>>,
}

/// One client connection, as the handlers of its requests see it.
pub struct ClientControl {
    peer: Option<SocketAddr>,
    fault: Cell<Option<ClientFault>>,
    requests: Cell<u64>,
    sent_bytes: Cell<u64>,
    left: Cell<bool>,
    upgraded: Cell<bool>,
    request_id: RefCell<Option<RequestId>>,
    refused: Cell<bool>,
    diversion: RefCell<Diversion>,
    listeners: Listeners,
}

impl ClientControl {
    pub(super) fn new(peer: Option<SocketAddr>, listeners: Listeners) -> Self {
        Self {
            peer,
            fault: Cell::new(None),
            requests: Cell::new(0),
            sent_bytes: Cell::new(0),
            left: Cell::new(false),
            upgraded: Cell::new(false),
            request_id: RefCell::default(),
            refused: Cell::new(false),
            diversion: RefCell::default(),
            listeners,
        }
    }

    /// The other end of the connection.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// The first thing that went wrong on the connection: ask it when a payload ends in an error.
    pub fn fault(&self) -> Option<ClientFault> {
        self.fault.get()
    }

    /// Names the request that is being answered, for the answer that the guard gives where its
    /// handler gives none.
    pub fn begin_request(&self, id: &RequestId) {
        *self.request_id.borrow_mut() = Some(id.clone());
    }

    /// The id of the request that began last.
    pub fn request_id(&self) -> Option<RequestId> {
        self.request_id.borrow().clone()
    }

    /// The fault for which the guard itself has answered the request that is being answered, where
    /// it has.
    pub fn refused_request(&self) -> Option<ClientFault> {
        self.fault.get().filter(|_| self.refused.get())
    }

    pub(super) fn note_refused_request(&self) {
        self.refused.set(true);
    }

    /// How many requests have arrived on the connection.
    pub fn requests(&self) -> u64 {
        self.requests.get()
    }

    /// How many bytes the client's socket has taken, over the whole connection.
    pub fn sent_bytes(&self) -> u64 {
        self.sent_bytes.get()
    }

    /// Whether the client has ended its side of the connection.
    pub fn client_left(&self) -> bool {
        self.left.get()
    }

    /// What the client sends after 101, whatever the protocol. To be called before the 101 is
    /// given; the payload of the request then stays empty. The response needs `no_chunking` in its
    /// head, unless the upgrade is to `websocket`.
    pub fn raw_input(self: &Rc<Self>) -> RawInput {
        RawInput::new(Rc::clone(self))
    }

    pub(super) fn diversion(&self) -> RefMut<'_, Diversion> {
        self.diversion.borrow_mut()
    }

    /// From now on the bytes of the connection are none of the guard's business. A response with
    /// status 101 does the same.
    pub fn upgraded(&self) {
        self.upgraded.set(true);
    }

    pub(super) fn is_upgraded(&self) -> bool {
        self.upgraded.get()
    }

    pub(crate) fn note_fault(&self, fault: ClientFault) {
        if self.fault.get().is_none() {
            match self.peer {
                Some(peer) => log::debug!("client {peer}: {fault}"),
                None => log::debug!("a client without an address: {fault}"),
            }
            self.fault.set(Some(fault));
            if let Some(observer) = &self.listeners.observer {
                observer(self, fault);
            }
        }
    }

    /// The response to the fault, where nobody else gives one.
    pub(super) fn refusal(&self, within_request: bool) -> Option<Vec<u8>> {
        let fault = self.fault.get()?;
        match &self.listeners.refuser {
            Some(refuser) => refuser(&Refused {
                client: self,
                fault,
                within_request,
            }),
            None => fault.response().map(String::into_bytes),
        }
    }

    pub(crate) fn note_request(&self) {
        self.requests.set(self.requests.get().saturating_add(1));
    }

    pub(crate) fn note_sent(&self, count: usize) {
        self.sent_bytes
            .set(self.sent_bytes.get().saturating_add(count as u64));
    }

    pub(crate) fn note_left(&self) {
        self.left.set(true);
    }
}

impl fmt::Debug for ClientControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientControl")
            .field("peer", &self.peer)
            .field("fault", &self.fault)
            .field("requests", &self.requests)
            .finish_non_exhaustive()
    }
}
