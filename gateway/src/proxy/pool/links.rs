//! [`Links`]: the connections of one worker that wait for their next request. The one that was used
//! last goes first, so that the others can end; each is closed when it has waited for long enough,
//! or has lived for so long, or its origin closes it, whether another request comes or not.

use std::{
    cell::{Cell, RefCell},
    future::{Future as _, poll_fn},
    mem,
    rc::{Rc, Weak},
    task::{Context, Poll, Waker},
    time::Duration,
};

use actix_http::{KeepAlive, ServiceConfig};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, sleep_until},
};

use super::link::Link;
use crate::wire::clock::now;

/// Most connections to one origin that wait in one worker.
const MOST_IDLE: usize = 1024;

/// See the module.
pub(super) struct Links<Io: AsyncRead + AsyncWrite + Unpin + 'static> {
    /// By the slots of their targets; the longest idle one first.
    idle: RefCell<Vec<Vec<Idle<Io>>>>,
    keep_alive: Duration,
    lifetime: Duration,
    /// Most that wait to serve one slot.
    room: usize,
    config: ServiceConfig,
    /// Of the task that looks after them.
    watcher: RefCell<Option<Waker>>,
    /// When that looks again by itself, if it does.
    looks_at: Cell<Option<Instant>>,
}

struct Idle<Io> {
    link: Link<Io>,
    until: Instant,
}

impl<Io: AsyncRead + AsyncWrite + Unpin + 'static> Links<Io> {
    /// None yet. Spawns the task that looks after them.
    pub(super) fn new(keep_alive: Duration, lifetime: Duration) -> Rc<Self> {
        Self::with_room(keep_alive, lifetime, MOST_IDLE)
    }

    fn with_room(keep_alive: Duration, lifetime: Duration, room: usize) -> Rc<Self> {
        let links = Rc::new(Self {
            idle: RefCell::default(),
            keep_alive,
            lifetime,
            room,
            config: ServiceConfig::new(KeepAlive::Os, Duration::ZERO, Duration::ZERO, false, None),
            watcher: RefCell::default(),
            looks_at: Cell::default(),
        });
        actix_rt::spawn(watch(Rc::downgrade(&links)));
        links
    }

    /// What codecs of answers are made with.
    pub(super) fn config(&self) -> &ServiceConfig {
        &self.config
    }

    /// The one to `slot` that was used last and stands.
    pub(super) fn take(&self, slot: usize) -> Option<Link<Io>> {
        // Whoever takes it waits for its answer, and is woken then.
        let cx = &mut Context::from_waker(Waker::noop());
        loop {
            let mut idle = self.idle.borrow_mut().get_mut(slot)?.pop()?;
            if now() < idle.until && idle.link.is_at_rest(cx) {
                return Some(idle.link);
            }
            idle.link.close();
        }
    }

    /// Keeps one whose exchange is over, unless it is of no more use.
    pub(super) fn put(&self, slot: usize, mut link: Link<Io>) {
        let now = now();
        let until = (now + self.keep_alive).min(link.opened() + self.lifetime);
        let is_of_use = {
            let watcher = self.watcher.borrow();
            let waker = watcher.as_ref().unwrap_or(Waker::noop());
            now < until && link.is_at_rest(&mut Context::from_waker(waker))
        };
        if !is_of_use {
            return link.close();
        }
        let crowded_out = {
            let mut idle = self.idle.borrow_mut();
            if idle.len() <= slot {
                idle.resize_with(slot + 1, Vec::new);
            }
            match idle.get_mut(slot) {
                Some(shelf) if shelf.len() < self.room => {
                    shelf.push(Idle { link, until });
                    None
                }
                _ => Some(link),
            }
        };
        if let Some(link) = crowded_out {
            return link.close();
        }
        if self.looks_at.get().is_none_or(|looks_at| until < looks_at) {
            self.looks_at.set(Some(until));
            self.wake_watcher();
        }
    }

    /// Closes all that wait to serve `slot`.
    pub(super) fn give_up(&self, slot: usize) {
        let given_up = self.idle.borrow_mut().get_mut(slot).map(mem::take);
        close(given_up.into_iter().flatten());
    }

    /// Closes all that wait.
    pub(super) fn give_up_all(&self) {
        let given_up = mem::take(&mut *self.idle.borrow_mut());
        close(given_up.into_iter().flatten());
    }

    /// Closes those that have waited for long enough, or are at rest no more, and says when to look
    /// again.
    fn look_after(&self, cx: &mut Context<'_>) -> Option<Instant> {
        let now = Instant::now();
        let mut ended = Vec::new();
        let mut next = None;
        for shelf in self.idle.borrow_mut().iter_mut() {
            for idle in mem::take(shelf) {
                let mut idle = idle;
                if now < idle.until && idle.link.is_at_rest(cx) {
                    next = Some(next.map_or(idle.until, |next: Instant| next.min(idle.until)));
                    shelf.push(idle);
                } else {
                    ended.push(idle);
                }
            }
        }
        close(ended.into_iter());
        next
    }

    fn wake_watcher(&self) {
        let watcher = self.watcher.borrow().clone();
        if let Some(watcher) = watcher {
            watcher.wake();
        }
    }
}

fn close<Io: AsyncRead + AsyncWrite + Unpin + 'static>(ended: impl Iterator<Item = Idle<Io>>) {
    ended.for_each(|idle| idle.link.close());
}

impl<Io: AsyncRead + AsyncWrite + Unpin + 'static> Drop for Links<Io> {
    fn drop(&mut self) {
        // Its task ends with it.
        self.wake_watcher();
    }
}

/// Looks after the links of a worker until they are dropped: when an origin has something to say to
/// one, and in time.
async fn watch<Io: AsyncRead + AsyncWrite + Unpin + 'static>(links: Weak<Links<Io>>) {
    let mut sleep = Box::pin(sleep_until(Instant::now()));
    poll_fn(|cx| {
        let Some(links) = links.upgrade() else {
            return Poll::Ready(());
        };
        *links.watcher.borrow_mut() = Some(cx.waker().clone());
        loop {
            let next = links.look_after(cx);
            links.looks_at.set(next);
            let Some(next) = next else {
                return Poll::Pending;
            };
            sleep.as_mut().reset(next);
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    })
    .await;
}

#[cfg(test)]
mod tests {
    use std::{io, pin::Pin};

    use tokio::io::ReadBuf;

    use super::*;
    use crate::proxy::origin_stream::OriginControl;

    /// A connection on which nothing comes, and that says when it is closed.
    struct Silent {
        name: u32,
        closed: Rc<RefCell<Vec<u32>>>,
    }

    impl AsyncRead for Silent {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    impl AsyncWrite for Silent {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            data: &[u8],
        ) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(data.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.closed.borrow_mut().push(self.name);
            Poll::Ready(Ok(()))
        }
    }

    #[actix_rt::test]
    async fn only_so_many_wait_for_each_origin_and_the_last_goes_first() {
        let closed = Rc::new(RefCell::new(Vec::new()));
        let link = |name| {
            let closed = Rc::clone(&closed);
            Link::new(Silent { name, closed }, Rc::new(OriginControl::default()))
        };
        let long = Duration::from_secs(60);
        let links = Links::with_room(long, long, 3);
        for name in 1..=5 {
            links.put(0, link(name));
        }
        assert_eq!(*closed.borrow(), [4, 5]);
        links.put(7, link(6));
        assert_eq!(
            *closed.borrow(),
            [4, 5],
            "another origin has room of its own"
        );
        // One that is taken leaves its room.
        let taken = links.take(0).unwrap();
        links.put(0, link(8));
        links.put(0, taken);
        assert_eq!(*closed.borrow(), [4, 5, 3]);
        for _ in 0..3 {
            assert!(links.take(0).is_some());
        }
        assert!(links.take(0).is_none() && links.take(99).is_none());
        links.give_up_all();
        assert_eq!(*closed.borrow(), [4, 5, 3, 6]);
    }
}
