//! Trace context as it arrives at the origin.

use crate::client::get;
use crate::origin::Origin;
use crate::rig::Rig;

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

#[test]
fn only_well_formed_trace_context_arrives() {
    let origin = Origin::hello();
    let rig = Rig::before(&origin);
    let key = rig.key("acme", &[]).header();
    let other = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203332-01";
    let (no_trace, no_parent) = (
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
    );
    let tail = format!("{PARENT}-more");
    let later = format!("01{}-more", &PARENT[2..]);
    let forbidden = format!("ff{}", &PARENT[2..]);
    let upper = PARENT.to_uppercase();
    for (parents, states, arrived) in [
        (&[PARENT][..], &["a=1,b=2"][..], (1, 1)),
        (&[PARENT], &["a=1", "b=2"], (1, 2)),
        (&[PARENT], &[], (1, 0)),
        (&[&later], &["a=1"], (1, 1)),
        (&[PARENT], &["A=1"], (1, 0)),
        (&[PARENT], &["a=1", "a=2"], (1, 0)),
        (&[], &["a=1"], (0, 0)),
        (&[PARENT, PARENT], &["a=1"], (0, 0)),
        (&[PARENT, other], &[], (0, 0)),
        (&[no_trace], &["a=1"], (0, 0)),
        (&[no_parent], &["a=1"], (0, 0)),
        (&[&tail], &["a=1"], (0, 0)),
        (&[&forbidden], &["a=1"], (0, 0)),
        (&[&upper], &["a=1"], (0, 0)),
        (&[&PARENT[..54]], &["a=1"], (0, 0)),
        (&[""], &["a=1"], (0, 0)),
    ] {
        let lines: Vec<String> = [key.clone()]
            .into_iter()
            .chain(parents.iter().map(|line| format!("traceparent: {line}")))
            .chain(states.iter().map(|line| format!("TraceState: {line}")))
            .collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        assert_eq!(get(rig.public, "/", &lines).status, 200);
        let request = origin.arrived().pop().unwrap();
        let (parent, state) = (request.all("traceparent"), request.all("tracestate"));
        assert_eq!(
            (parent.len(), state.len()),
            arrived,
            "{parents:?} {states:?}"
        );
        assert!(arrived.0 == 0 || parent == parents, "{parent:?}");
        assert!(arrived.1 == 0 || state == states, "{state:?}");
    }
}
