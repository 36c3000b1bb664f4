//! Keys that were made elsewhere, at a running gateway.

use crate::client::get;
use crate::origin::Origin;
use crate::rig::Rig;
use crate::running::eventually;

#[test]
fn imported_keys_are_let_in_by_a_gateway_that_runs() {
    let origin = Origin::hello();
    let rig = Rig::before(&origin);
    let own = rig.key("before", &[]);
    let mut csv = "consumer,key,expires_at,disabled\nacme,sk_live_good/+~.==,,\nacme,sk_live_over,2001-01-01T00:00:00Z,\nacme,sk_live_off,,true\n".to_owned();
    // More changes than the gateway follows one by one, so it reads all keys again at least once.
    csv.extend((0..12_000).map(|number| format!("consumer-{number},sk_live_{number:08},,\n")));
    std::fs::write(rig.directory.path().join("keys.csv"), csv).unwrap();
    let file = rig.directory.path().join("keys.csv");
    let said = rig.done(&[
        "import",
        file.to_str().unwrap(),
        "--batch",
        "12100",
        "--allow-weak",
    ]);
    assert!(said.contains("added 12003 keys"), "{said}");

    let status =
        |key: &str| get(rig.public, "/", &[&format!("Authorization: Bearer {key}")]).status;
    for key in ["sk_live_good/+~.==", "sk_live_00000000", "sk_live_00011999"] {
        // The gateway loads everything anew, which may take longer than a command waits.
        eventually("the imported key is let in", || status(key) == 200);
    }
    for key in ["sk_live_over", "sk_live_off", "sk_live_00012000", "acme"] {
        assert_eq!(status(key), 401, "{key}");
    }
    assert_eq!(rig.get("/", &own).status, 200);
    let arrived = origin.arrived();
    assert!(
        arrived
            .iter()
            .any(|request| request.one("x-consumer-username") == Some("consumer-11999")),
        "{:?}",
        arrived.last()
    );
}
