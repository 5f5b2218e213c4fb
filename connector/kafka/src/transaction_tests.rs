//! Every way through a transaction, with a script in the place of a client.

use std::{cell::RefCell, rc::Rc};

use super::*;
use crate::batching::Blame;

/// A client that does what the script says and writes down what was asked of it.
#[derive(Clone)]
struct Script {
    calls: Rc<RefCell<Vec<&'static str>>>,
    begin: Result<(), TransactionError>,
    write: Result<(), WriteFailure>,
    offsets: Result<(), OffsetsFailure>,
    tenures: Result<(), String>,
    may_commit: bool,
    commit: Result<(), TransactionError>,
    abort: Result<(), TransactionError>,
}

impl Script {
    fn smooth() -> Self {
        Self {
            calls: Rc::default(),
            begin: Ok(()),
            write: Ok(()),
            offsets: Ok(()),
            tenures: Ok(()),
            may_commit: true,
            commit: Ok(()),
            abort: Ok(()),
        }
    }

    fn run(self) -> (End, Vec<&'static str>) {
        let calls = Rc::clone(&self.calls);
        let end = run(self);
        let calls = calls.borrow().clone();
        (end, calls)
    }
}

impl TransactionalClient for Script {
    fn begin(&mut self) -> Result<(), TransactionError> {
        self.calls.borrow_mut().push("begin");
        self.begin.clone()
    }
    fn write(&mut self) -> Result<(), WriteFailure> {
        self.calls.borrow_mut().push("write");
        self.write.clone()
    }
    fn send_offsets(&mut self) -> Result<(), OffsetsFailure> {
        self.calls.borrow_mut().push("offsets");
        self.offsets.clone()
    }
    fn touch_offsets(&mut self) -> Result<(), OffsetsFailure> {
        self.calls.borrow_mut().push("touch");
        self.offsets.clone()
    }
    fn check_tenures(&mut self) -> Result<(), String> {
        self.tenures.clone()
    }
    fn may_commit(&mut self) -> bool {
        self.may_commit
    }
    fn commit(&mut self) -> Result<(), TransactionError> {
        self.calls.borrow_mut().push("commit");
        self.commit.clone()
    }
    fn abort(&mut self) -> Result<(), TransactionError> {
        self.calls.borrow_mut().push("abort");
        self.abort.clone()
    }
}

#[derive(Clone, Copy)]
enum Kind {
    /// Neither of the others: the same call may be made again.
    Retriable,
    Abortable,
    Fatal,
}

fn error(code: RDKafkaErrorCode, kind: Kind) -> TransactionError {
    TransactionError {
        code,
        message: "scripted".to_owned(),
        fatal: matches!(kind, Kind::Fatal),
        abortable: matches!(kind, Kind::Abortable),
    }
}

fn kind_of(end: &End) -> &'static str {
    match end {
        End::Committed => "committed",
        End::Failed(failure) => kind_of_failure(failure),
        End::Ambiguous { fenced: true, .. } => "ambiguous, fenced",
        End::Ambiguous { fenced: false, .. } => "ambiguous",
    }
}

fn kind_of_failure(failure: &Failure) -> &'static str {
    match failure {
        Failure::Aborted(_) => "aborted",
        Failure::Missing { .. } => "missing",
        Failure::Refused { .. } => "refused",
        Failure::RefusedTogether(_) => "refused together",
        Failure::Broken { fenced: true, .. } => "broken, fenced",
        Failure::Broken { fenced: false, .. } => "broken",
        Failure::Stopped(_) => "stopped",
    }
}

#[test]
fn a_smooth_transaction_commits() {
    let (end, calls) = Script::smooth().run();
    assert_eq!(end, End::Committed);
    assert_eq!(calls, ["begin", "write", "offsets", "commit"]);
}

#[test]
fn a_transaction_that_is_ended_again_touches_everything_and_aborts() {
    use RDKafkaErrorCode as Code;
    let run = |script: Script| {
        let calls = Rc::clone(&script.calls);
        let end = match end_again(script) {
            EndedAgain::Done => "done",
            EndedAgain::NotTried(_) => "not tried",
            EndedAgain::Waits(failure) => match kind_of_failure(&failure) {
                "aborted" => "waits",
                "broken" => "waits, broken",
                other => other,
            },
            EndedAgain::Failed(failure) => kind_of_failure(&failure),
        };
        (end, calls.borrow().clone())
    };
    let all = vec!["begin", "write", "touch", "abort"];
    assert_eq!(run(Script::smooth()), ("done", all.clone()));
    let refused = error(Code::IllegalGeneration, Kind::Abortable);
    let script = Script {
        offsets: Err(OffsetsFailure::Failed(refused)),
        ..Script::smooth()
    };
    assert_eq!(run(script), ("done", all.clone()));
    let script = Script {
        offsets: Err(OffsetsFailure::NotOurs("not joined".to_owned())),
        ..Script::smooth()
    };
    assert_eq!(run(script), ("aborted", all));
    let unwritten = vec!["begin", "write", "abort"];
    let failing = |write| Script {
        write: Err(write),
        ..Script::smooth()
    };
    let unanswered = error(Code::OperationTimedOut, Kind::Retriable);
    let script = Script {
        offsets: Err(OffsetsFailure::Failed(unanswered)),
        ..Script::smooth()
    };
    assert_eq!(
        run(script),
        ("waits", vec!["begin", "write", "touch", "abort"])
    );
    let script = failing(WriteFailure::Passing("refused for now".to_owned()));
    assert_eq!(run(script), ("aborted", unwritten.clone()));
    let unacknowledged = || failing(WriteFailure::Unacknowledged("no leader".to_owned()));
    assert_eq!(run(unacknowledged()), ("waits", unwritten.clone()));
    let script = Script {
        abort: Err(error(Code::OperationTimedOut, Kind::Retriable)),
        ..unacknowledged()
    };
    assert_eq!(run(script), ("waits, broken", unwritten));
}

#[test]
fn no_failure_before_the_commit_is_followed_by_one() {
    use RDKafkaErrorCode as Code;
    let cases: Vec<(&str, Script)> = vec![
        (
            "broken, fenced",
            Script {
                begin: Err(error(Code::Fenced, Kind::Fatal)),
                ..Script::smooth()
            },
        ),
        (
            "aborted",
            Script {
                write: Err(WriteFailure::Passing("timed out".to_owned())),
                ..Script::smooth()
            },
        ),
        (
            "refused",
            Script {
                write: Err(WriteFailure::Refused {
                    delivery: 0,
                    output: 1,
                    cause: "too large".to_owned(),
                }),
                ..Script::smooth()
            },
        ),
        (
            "refused together",
            Script {
                write: Err(WriteFailure::RefusedTogether(RefusedBatch {
                    blame: Blame::Contents,
                    cause: "not valid".to_owned(),
                })),
                ..Script::smooth()
            },
        ),
        (
            "missing",
            Script {
                write: Err(WriteFailure::Missing {
                    topic: "llm.pairs".to_owned(),
                    cause: "not there".to_owned(),
                }),
                ..Script::smooth()
            },
        ),
        (
            "stopped",
            Script {
                write: Err(WriteFailure::Lasting("no such topic".to_owned())),
                ..Script::smooth()
            },
        ),
        (
            "aborted",
            Script {
                offsets: Err(OffsetsFailure::NotOurs("not joined".to_owned())),
                ..Script::smooth()
            },
        ),
        (
            "aborted",
            Script {
                offsets: Err(OffsetsFailure::Failed(error(
                    Code::OperationTimedOut,
                    Kind::Retriable,
                ))),
                ..Script::smooth()
            },
        ),
        (
            "aborted",
            Script {
                offsets: Err(OffsetsFailure::Failed(error(
                    Code::IllegalGeneration,
                    Kind::Abortable,
                ))),
                ..Script::smooth()
            },
        ),
        (
            "broken, fenced",
            Script {
                offsets: Err(OffsetsFailure::Failed(error(Code::Fenced, Kind::Fatal))),
                ..Script::smooth()
            },
        ),
        (
            "stopped",
            Script {
                offsets: Err(OffsetsFailure::Failed(error(
                    Code::GroupAuthorizationFailed,
                    Kind::Abortable,
                ))),
                ..Script::smooth()
            },
        ),
        (
            "aborted",
            Script {
                tenures: Err("its log is another one now".to_owned()),
                ..Script::smooth()
            },
        ),
        (
            "broken",
            Script {
                may_commit: false,
                ..Script::smooth()
            },
        ),
        (
            "broken",
            Script {
                offsets: Err(OffsetsFailure::Failed(error(
                    Code::OperationTimedOut,
                    Kind::Retriable,
                ))),
                abort: Err(error(Code::OperationTimedOut, Kind::Retriable)),
                ..Script::smooth()
            },
        ),
    ];
    for (expected, script) in cases {
        let (end, calls) = script.run();
        assert_eq!(kind_of(&end), expected, "{end:?}");
        assert!(!calls.contains(&"commit"), "{expected}: {calls:?}");
    }
}

#[test]
fn offsets_that_are_refused_for_their_topic_are_blamed_on_no_output_topic() {
    for kind in [Kind::Abortable, Kind::Fatal] {
        let refused = error(RDKafkaErrorCode::TopicAuthorizationFailed, kind);
        let script = Script {
            offsets: Err(OffsetsFailure::Failed(refused)),
            ..Script::smooth()
        };
        match script.run().0 {
            End::Failed(Failure::Stopped(cause)) => {
                assert!(cause.contains("offsets of an answer topic"), "{cause}");
                assert!(!cause.contains("output topic"), "{cause}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_commit_that_failed_is_ambiguous_whatever_the_error_says_and_no_abort_tells() {
    use RDKafkaErrorCode as Code;
    for (expected, code, kind) in [
        ("ambiguous", Code::OperationTimedOut, Kind::Retriable),
        ("ambiguous, fenced", Code::Fenced, Kind::Fatal),
        ("ambiguous, fenced", Code::InvalidProducerEpoch, Kind::Fatal),
        // The request that librdkafka sent once more did not get there; the first one may have.
        ("ambiguous", Code::Resolve, Kind::Abortable),
        ("ambiguous", Code::SSL, Kind::Abortable),
        ("ambiguous", Code::Authentication, Kind::Abortable),
        // Answered by a coordinator that has forgotten us, be it after it committed.
        ("ambiguous", Code::InvalidProducerIdMapping, Kind::Abortable),
        ("ambiguous", Code::TopicAuthorizationFailed, Kind::Abortable),
    ] {
        let script = Script {
            commit: Err(error(code, kind)),
            ..Script::smooth()
        };
        let (end, calls) = script.run();
        assert_eq!(kind_of(&end), expected, "{code:?}: {end:?}");
        assert_eq!(calls, ["begin", "write", "offsets", "commit"], "{code:?}");
    }
}

#[test]
fn what_no_commit_was_tried_for_is_never_ambiguous_even_when_the_abort_fails() {
    let script = Script {
        tenures: Err("its log is another one now".to_owned()),
        abort: Err(error(RDKafkaErrorCode::Fenced, Kind::Fatal)),
        ..Script::smooth()
    };
    let (end, calls) = script.run();
    assert_eq!(kind_of(&end), "broken, fenced");
    assert!(!calls.contains(&"commit"), "{calls:?}");
}
