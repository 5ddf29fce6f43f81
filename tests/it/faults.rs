//! Faults of every kind, spread over a run: everything is made, in few more requests, and nothing that arrived is asked for again.
//! The bench of this name does the same on a larger scale.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use crate::server::{Server, fault, faults};
use crate::shop::{is_built, shop_with};

#[test]
fn a_run_survives_faults_of_every_kind() {
    const PAGES: usize = 500;
    let server = Server::start();
    let p = shop_with(&server, PAGES, "in_flight: 4", "");
    let met = Arc::new(Mutex::new(BTreeSet::new()));
    let meets = Arc::clone(&met);
    // Of ten requests one, the kinds in turn.
    server.each(move |number, request| {
        let kind = number / 10 % faults().len();
        let act = fault(kind, request).filter(|_| number % 10 == 5)?;
        meets.lock().expect("no test panics here").insert(kind);
        Some(act)
    });
    p.run(["-s"]).exits(0);
    is_built(&p, PAGES, &[]);
    assert_eq!(server.asked_twice(), [""; 0]);
    assert_eq!(met.lock().expect("nor there").len(), faults().len(), "each kind was met");
    let faultless = PAGES / 5;
    assert!(server.count() * 100 <= faultless * 125, "{} requests, without faults {faultless}", server.count());
}
