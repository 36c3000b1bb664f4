//! [`Crowd`]: the connections of one worker, and room for one more. When there are as many as may
//! be, the one that has been idle for longest is closed in favour of the next: whoever connects and
//! asks nothing keeps nobody out.
//!
//! Idle is a connection that owes no response and has not sent a whole head: before the handshake,
//! before the first request, between two. A request costs two steps in a linked list, without an
//! allocation.

use std::{
    cell::{Cell, RefCell},
    fmt,
    rc::Rc,
    task::{Context, Poll, Waker},
};

/// Where the list ends.
const NONE: usize = usize::MAX;

/// The connections of a worker.
pub(super) struct Crowd {
    most: usize,
    /// Nobody may stay that is idle.
    is_closed: Cell<bool>,
    seats: RefCell<Seats>,
}

/// One connection among them, until this is dropped.
pub struct Place {
    crowd: Rc<Crowd>,
    seat: usize,
}

struct Seats {
    seats: Vec<Seat>,
    free: Vec<usize>,
    taken: usize,
    /// Those that are told to go and have not gone yet.
    leaving: usize,
    longest_idle: usize,
    latest_idle: usize,
}

struct Seat {
    state: State,
    earlier: usize,
    later: usize,
    waker: Option<Waker>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Free,
    Busy,
    Idle,
    Leaving,
}

impl Crowd {
    /// Of at most `most` connections; one more is let in and makes room.
    pub(super) fn of_at_most(most: usize) -> Rc<Self> {
        Rc::new(Self {
            most,
            is_closed: Cell::new(false),
            seats: RefCell::new(Seats {
                seats: Vec::new(),
                free: Vec::new(),
                taken: 0,
                leaving: 0,
                longest_idle: NONE,
                latest_idle: NONE,
            }),
        })
    }

    /// Takes in a connection, which is idle at first. The one that goes for it is another.
    pub(super) fn enter(self: &Rc<Self>) -> Place {
        let seat = self.seats.borrow_mut().take();
        // Before it is among those that are idle, so that another goes for it.
        self.make_room();
        self.seats.borrow_mut().link(seat);
        if self.is_closed.get() {
            self.make_room();
        }
        Place {
            crowd: Rc::clone(self),
            seat,
        }
    }

    /// Sends every idle connection away, and from now on every other as soon as it is idle.
    pub(super) fn close(&self) {
        self.is_closed.set(true);
        self.make_room();
    }

    fn make_room(&self) {
        let most = if self.is_closed.get() { 0 } else { self.most };
        loop {
            let sent_away = self.seats.borrow_mut().send_one_away(most);
            match sent_away {
                // Waking runs nothing of the connection yet, but no borrow is to stand while it
                // happens.
                Some(Some(waker)) => waker.wake(),
                Some(None) => {}
                None => return,
            }
        }
    }
}

impl Place {
    /// Whether it is sent away because the listener ends, and not for another.
    pub(crate) fn is_closed(&self) -> bool {
        self.crowd.is_closed.get()
    }

    /// Ready when the connection is to go, to make room. Otherwise the task is woken when it is.
    pub(crate) fn poll_sent_away(&self, cx: &Context<'_>) -> Poll<()> {
        let mut seats = self.crowd.seats.borrow_mut();
        let Some(seat) = seats.seats.get_mut(self.seat) else {
            return Poll::Pending;
        };
        if seat.state == State::Leaving {
            return Poll::Ready(());
        }
        // As long as the task is the same one, this copies nothing.
        match &mut seat.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    /// Whether a request is being served.
    pub(crate) fn is_busy(&self) -> bool {
        let seats = self.crowd.seats.borrow();
        seats
            .seats
            .get(self.seat)
            .is_some_and(|seat| seat.state == State::Busy)
    }

    /// A request has arrived.
    pub(crate) fn busy(&self) {
        let was_leaving = self.crowd.seats.borrow_mut().unlink(self.seat, State::Busy);
        if was_leaving {
            self.crowd.make_room();
        }
    }

    /// The response is out, and the next request may come. One that was told to go goes
    /// nevertheless.
    pub(crate) fn idle(&self) {
        {
            let mut seats = self.crowd.seats.borrow_mut();
            let state = seats.seats.get(self.seat).map(|seat| seat.state);
            if state == Some(State::Leaving) {
                return;
            }
            seats.unlink(self.seat, State::Busy);
            seats.link(self.seat);
        }
        self.crowd.make_room();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let waker = {
            let mut seats = self.crowd.seats.borrow_mut();
            seats.unlink(self.seat, State::Free);
            seats.taken -= 1;
            seats.free.push(self.seat);
            seats
                .seats
                .get_mut(self.seat)
                .and_then(|seat| seat.waker.take())
        };
        // A waker may take its task along.
        drop(waker);
    }
}

impl Seats {
    fn take(&mut self) -> usize {
        self.taken += 1;
        if let Some(free) = self.free.pop() {
            if let Some(seat) = self.seats.get_mut(free) {
                seat.state = State::Busy;
            }
            return free;
        }
        self.seats.push(Seat {
            state: State::Busy,
            earlier: NONE,
            later: NONE,
            waker: None,
        });
        self.seats.len() - 1
    }

    /// Puts a busy connection at the end of those that are idle.
    fn link(&mut self, index: usize) {
        let before = self.latest_idle;
        if let Some(seat) = self.seats.get_mut(index) {
            (seat.state, seat.earlier, seat.later) = (State::Idle, before, NONE);
        }
        match self.seats.get_mut(before) {
            Some(seat) => seat.later = index,
            None => self.longest_idle = index,
        }
        self.latest_idle = index;
    }

    /// Takes a connection out of whatever it is in, and says whether it was told to go.
    fn unlink(&mut self, index: usize, to: State) -> bool {
        let Some(seat) = self.seats.get_mut(index) else {
            return false;
        };
        let (was, earlier, later) = (seat.state, seat.earlier, seat.later);
        (seat.state, seat.earlier, seat.later) = (to, NONE, NONE);
        match was {
            State::Idle => {
                match self.seats.get_mut(earlier) {
                    Some(seat) => seat.later = later,
                    None => self.longest_idle = later,
                }
                match self.seats.get_mut(later) {
                    Some(seat) => seat.earlier = earlier,
                    None => self.latest_idle = earlier,
                }
                false
            }
            State::Leaving => {
                self.leaving -= 1;
                true
            }
            State::Busy | State::Free => false,
        }
    }

    /// Tells the longest idle connection to go if there are more than `most`. Its waker, if
    /// somebody waits.
    fn send_one_away(&mut self, most: usize) -> Option<Option<Waker>> {
        if self.taken - self.leaving <= most || self.longest_idle == NONE {
            return None;
        }
        let index = self.longest_idle;
        self.unlink(index, State::Leaving);
        self.leaving += 1;
        Some(self.seats.get_mut(index).and_then(|seat| seat.waker.take()))
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place").field("seat", &self.seat).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn is_sent_away(place: &Place) -> bool {
        place
            .poll_sent_away(&Context::from_waker(Waker::noop()))
            .is_ready()
    }

    #[test]
    fn the_longest_idle_goes_and_those_with_a_request_stay() {
        let crowd = Crowd::of_at_most(3);
        let (first, second, third) = (crowd.enter(), crowd.enter(), crowd.enter());
        first.busy();
        let fourth = crowd.enter();
        assert!(!is_sent_away(&first) && is_sent_away(&second));
        assert!(!is_sent_away(&third) && !is_sent_away(&fourth));
        // The request of one that was to go was quicker: another goes in its place.
        second.busy();
        assert!(!is_sent_away(&second) && is_sent_away(&third));
        drop(third);
        fourth.busy();
        let fifth = crowd.enter();
        assert!(!is_sent_away(&fifth), "nobody is idle but the newest");
        first.idle();
        assert!(is_sent_away(&fifth) && !is_sent_away(&first));
    }

    #[test]
    fn of_a_closed_crowd_all_go_once_they_are_idle() {
        let crowd = Crowd::of_at_most(8);
        let (idle, busy) = (crowd.enter(), crowd.enter());
        busy.busy();
        crowd.close();
        assert!(is_sent_away(&idle) && !is_sent_away(&busy));
        assert!(is_sent_away(&crowd.enter()));
        busy.idle();
        assert!(is_sent_away(&busy) && busy.is_closed());
    }

    #[test]
    fn a_crowd_of_one_makes_room_too() {
        let crowd = Crowd::of_at_most(1);
        let first = crowd.enter();
        let second = crowd.enter();
        assert!(is_sent_away(&first) && !is_sent_away(&second));
    }

    proptest! {
        #[test]
        fn whatever_happens_the_list_holds_exactly_those_that_are_idle(
            steps in proptest::collection::vec((0usize..4, 0usize..8), 1..200),
        ) {
            let crowd = Crowd::of_at_most(4);
            let mut places: Vec<Place> = Vec::new();
            for (what, at) in steps {
                let at = at % places.len().max(1);
                match (what, places.get(at)) {
                    (0, _) | (_, None) => places.push(crowd.enter()),
                    (1, Some(place)) => place.busy(),
                    (2, Some(place)) => place.idle(),
                    _ => drop(places.remove(at)),
                }
                let seats = crowd.seats.borrow();
                let (mut listed, mut next, mut before) = (0, seats.longest_idle, NONE);
                while next != NONE {
                    let seat = &seats.seats[next];
                    prop_assert!(seat.state == State::Idle && seat.earlier == before);
                    (listed, before, next) = (listed + 1, next, seat.later);
                }
                prop_assert_eq!(before, seats.latest_idle);
                let of = |state| seats.seats.iter().filter(|seat| seat.state == state).count();
                prop_assert_eq!(listed, of(State::Idle));
                prop_assert_eq!(seats.leaving, of(State::Leaving));
                prop_assert_eq!(seats.taken, places.len());
                // More than there may be only where nobody but the newest is idle.
                prop_assert!(seats.taken - seats.leaving <= 4 || listed <= 1);
            }
        }
    }
}
