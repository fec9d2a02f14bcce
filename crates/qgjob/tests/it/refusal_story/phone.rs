//! Phones that refuse, lie, die and hang under a job: infrastructure pays, the tests are not blamed.

use simulated_android::Fault;

use super::{End, ends, still_works};
use crate::world::{BUGGY, GOOD, World};

const PASSED: End<'_> = End { code: 0, conclusion: "passed", reason: "tests_passed" };
const ABOUT: &str = "--test=tests/about.spec.js";
const NO_RETRY: &str = "--retries=0";

fn errored(reason: &str) -> End<'_> {
    End { code: 10, conclusion: "errored", reason }
}

/// Something goes wrong with every phone, because nobody knows which one gets the job.
fn fault(world: &World, fault: &Fault) {
    world.phones.iter().for_each(|one| one.phone.fault(fault.clone()));
}

fn sessions(world: &World) -> u64 {
    world.phones.iter().map(|one| one.phone.truth().automation_sessions).sum()
}

fn detail(job: &serde_json::Value) -> &str {
    job["detail"].as_str().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_that_does_not_take_the_app_gets_no_test() {
    let world = World::new(2).await;
    fault(&world, &Fault::StorageFull);
    let id = world.submit(&[GOOD, ABOUT, NO_RETRY]).await;
    let job = ends(&world, &id, errored("install_fault"), "a phone without space").await;
    assert!(detail(&job).contains("INSUFFICIENT_STORAGE"), "{job}");
    fault(&world, &Fault::Heal);

    // Each phone says no once: the job goes from one to the other, and comes back.
    let refusal = "INSTALL_FAILED_VERIFICATION_FAILURE".to_owned();
    fault(&world, &Fault::RejectInstall { message: refusal, times: 1 });
    let id = world.submit(&[GOOD, ABOUT]).await;
    let job = ends(&world, &id, PASSED, "phones that refuse once").await;
    assert_eq!((job["attempts"].as_u64(), job["infra_faults"].as_u64()), (Some(3), Some(2)), "{job}");
    for one in &world.phones {
        let refused = one.phone.truth().refused_installs;
        assert!(refused.iter().any(|one| one.message.contains("VERIFICATION_FAILURE")), "{refused:?}");
    }

    let tested = sessions(&world);
    fault(&world, &Fault::CorruptInstall { times: 1 });
    let id = world.submit(&[BUGGY, ABOUT, NO_RETRY]).await;
    let job = ends(&world, &id, errored("build_mismatch"), "other bytes than were sent").await;
    assert!(detail(&job).contains("not version"), "{job}");
    fault(&world, &Fault::Heal);

    let lie = Fault::LieAboutVersion { package: crate::device_bench::DEMO.to_owned(), version_code: Some(1) };
    fault(&world, &lie);
    let id = world.submit(&[GOOD, ABOUT, NO_RETRY]).await;
    let job = ends(&world, &id, errored("build_mismatch"), "a version that is not the build's").await;
    assert!(detail(&job).contains("version 1 "), "{job}");
    assert_eq!(sessions(&world), tested, "no test ran on an app that was not proven");
    fault(&world, &Fault::Heal);

    // What is only slow is no fault.
    fault(&world, &Fault::SlowInstall { ms: 3_000 });
    let id = world.submit(&[BUGGY, ABOUT, NO_RETRY]).await;
    let job = ends(&world, &id, PASSED, "a slow phone").await;
    assert!(job["install"]["duration_ms"].as_u64().unwrap() >= 3_000, "{job}");
    still_works(&world).await;
}
