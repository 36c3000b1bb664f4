//! Text of `Date` (RFC 9110, section 6.6.1).

use std::cell::RefCell;
use std::time::SystemTime;

use actix_http::header::HttpDate;

/// Runs `read` with the current date, which is formatted once per second.
pub(super) fn with_date<T>(read: impl FnOnce(&str) -> T) -> T {
    thread_local! {
        static LATEST: RefCell<(u64, String)> = const { RefCell::new((0, String::new())) };
    }
    let now = SystemTime::now();
    let second = now
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    LATEST.with_borrow_mut(|(made_at, date)| {
        if *made_at != second || date.is_empty() {
            (*made_at, *date) = (second, HttpDate::from(now).to_string());
        }
        read(date)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_is_that_of_now() {
        let earliest = SystemTime::now();
        let date = with_date(str::to_owned);
        let date = SystemTime::from(date.parse::<HttpDate>().unwrap());
        let difference = earliest
            .duration_since(date)
            .unwrap_or_else(|later| later.duration());
        assert!(difference.as_secs() <= 1, "{difference:?}");
    }
}
