//! Publishing order, with writes that finish when the test says so.

use std::sync::Arc;
use std::task::Waker;

use logwood_base::sync::Condvar;

use super::*;

/// A write that ends when `finish` is called, or when somebody leads it.
#[derive(Clone)]
struct FakeWrite(Arc<(Mutex<FakeState>, Condvar)>);

#[derive(Default)]
struct FakeState {
    outcome: Option<Result<()>>,
    led: bool,
    leads: bool,
    wakers: Vec<Waker>,
}

impl FakeWrite {
    fn new(leads: bool) -> Self {
        Self(Arc::new((Mutex::new(FakeState { leads, ..FakeState::default() }), Condvar::default())))
    }

    fn finish(&self, outcome: Result<()>) {
        let mut state = self.0.0.lock();
        state.outcome = Some(outcome);
        state.wakers.drain(..).for_each(Waker::wake);
        self.0.1.notify_all();
    }

    fn was_led(&self) -> bool {
        self.0.0.lock().led
    }
}

impl PendingWrite for FakeWrite {
    fn is_done(&self) -> bool {
        matches!(self.0.0.lock().outcome, Some(Ok(())))
    }

    fn wait(&self) -> Result<()> {
        let mut state = self.0.0.lock();
        if state.leads && state.outcome.is_none() {
            state.led = true;
            state.outcome = Some(Ok(()));
        }
        while state.outcome.is_none() {
            self.0.1.wait(&mut state);
        }
        state.outcome.clone().unwrap()
    }

    fn poll(&self, context: &mut Context<'_>) -> Poll<Result<()>> {
        let mut state = self.0.0.lock();
        match &state.outcome {
            Some(outcome) => Poll::Ready(outcome.clone()),
            None => {
                state.wakers.push(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

fn publisher() -> (Publisher<FakeWrite>, Arc<Mutex<Vec<u64>>>) {
    let published = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&published);
    let publisher =
        Publisher::new(Lsn(10), Box::new(move |lsn| seen.lock().push(lsn.get())), Box::new(|_| {}));
    (publisher, published)
}

#[cfg(not(logwood_shuttle))]
mod plain {
    use super::*;

    #[test]
    fn a_buffered_commit_behind_a_durable_one_leads_that_ones_write_and_is_visible_after_it() {
        let (publisher, published) = publisher();
        let (durable, buffered) = (FakeWrite::new(true), FakeWrite::new(false));
        publisher.register(Lsn(11), durable.clone());
        publisher.register(Lsn(12), buffered.clone());
        buffered.finish(Ok(()));
        assert_eq!(publisher.visible(), Lsn(10));
        publisher.wait(Lsn(12), &buffered).unwrap();
        assert!(durable.was_led());
        assert_eq!((publisher.visible(), published.lock().as_slice()), (Lsn(12), &[12][..]));
        assert!(publisher.is_settled());
    }

    #[test]
    fn nothing_is_published_behind_a_failed_write() {
        let (publisher, published) = publisher();
        let writes: Vec<_> = (0..3).map(|_| FakeWrite::new(false)).collect();
        for (at, write) in writes.iter().enumerate() {
            publisher.register(Lsn(11 + at as u64), write.clone());
        }
        writes[0].finish(Ok(()));
        writes[1].finish(Err(Error::Closed));
        writes[2].finish(Ok(()));
        publisher.wait(Lsn(11), &writes[0]).unwrap();
        publisher.wait(Lsn(12), &writes[1]).unwrap_err();
        publisher.wait(Lsn(13), &writes[2]).unwrap_err();
        assert!(publisher.settle().is_err());
        assert_eq!((publisher.visible(), published.lock().as_slice()), (Lsn(11), &[11][..]));
    }

    #[test]
    fn a_polled_ticket_is_woken_by_the_write_that_stands_before_it() {
        let (publisher, _) = publisher();
        let (first, second) = (FakeWrite::new(false), FakeWrite::new(false));
        publisher.register(Lsn(11), first.clone());
        publisher.register(Lsn(12), second.clone());
        second.finish(Ok(()));
        let mut context = Context::from_waker(Waker::noop());
        assert!(publisher.poll(Lsn(12), &second, &mut context).is_pending());
        assert_eq!(first.0.0.lock().wakers.len(), 1);
        first.finish(Ok(()));
        assert!(matches!(publisher.poll(Lsn(12), &second, &mut context), Poll::Ready(Ok(()))));
    }
}

/// Every interleaving of committers and a reader: what is published ascends, is done, and is seen by its writer.
#[cfg(logwood_shuttle)]
#[test]
fn explored_commits_publish_a_done_prefix() {
    shuttle::check_random(
        || {
            let published = Arc::new(Mutex::new(Vec::new()));
            let seen = Arc::clone(&published);
            let publisher = Arc::new(Publisher::new(
                Lsn(0),
                Box::new(move |lsn: Lsn| seen.lock().push(lsn.get())),
                Box::new(|_| {}),
            ));
            let sequencer = Arc::new(Mutex::new(0u64));
            let done = Arc::new(Mutex::new(Vec::<FakeWrite>::new()));
            let threads: Vec<_> = (0..3)
                .map(|thread| {
                    let (publisher, sequencer) = (Arc::clone(&publisher), Arc::clone(&sequencer));
                    let done = Arc::clone(&done);
                    shuttle::thread::spawn(move || {
                        for _ in 0..2 {
                            let write = FakeWrite::new(thread != 0);
                            let lsn = {
                                let mut last = sequencer.lock();
                                *last += 1;
                                publisher.register(Lsn(*last), write.clone());
                                done.lock().push(write.clone());
                                Lsn(*last)
                            };
                            if thread == 0 {
                                write.finish(Ok(()));
                            }
                            publisher.wait(lsn, &write).unwrap();
                            let visible = publisher.visible();
                            assert!(visible >= lsn, "a commit that is answered is visible");
                            for earlier in &done.lock()[..visible.get() as usize] {
                                assert!(earlier.is_done(), "a prefix of done writes");
                            }
                        }
                    })
                })
                .collect();
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            let published = published.lock();
            assert!(published.is_sorted() && published.last() == Some(&6));
        },
        2_000,
    );
}

/// Every interleaving in which the third write fails, and with it those behind it: what is before it is published, nothing
/// else is, and everybody is told.
#[cfg(logwood_shuttle)]
#[test]
fn explored_commits_publish_nothing_behind_a_failed_write() {
    shuttle::check_random(
        || {
            const FAILS: u64 = 3;
            let published = Arc::new(Mutex::new(Vec::new()));
            let seen = Arc::clone(&published);
            let publisher = Arc::new(Publisher::new(
                Lsn(0),
                Box::new(move |lsn: Lsn| seen.lock().push(lsn.get())),
                Box::new(|_| {}),
            ));
            let sequencer = Arc::new(Mutex::new(0u64));
            let threads: Vec<_> = (0..3)
                .map(|_| {
                    let (publisher, sequencer) = (Arc::clone(&publisher), Arc::clone(&sequencer));
                    shuttle::thread::spawn(move || {
                        for _ in 0..2 {
                            let write = FakeWrite::new(true);
                            let lsn = {
                                let mut last = sequencer.lock();
                                *last += 1;
                                publisher.register(Lsn(*last), write.clone());
                                Lsn(*last)
                            };
                            if lsn.get() >= FAILS {
                                write.finish(Err(Error::Closed));
                            }
                            assert_eq!(publisher.wait(lsn, &write).is_ok(), lsn.get() < FAILS);
                            assert!(publisher.visible().get() < FAILS);
                        }
                    })
                })
                .collect();
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            assert!(publisher.settle().is_err(), "whoever comes later is told too");
            let published = published.lock();
            assert!(published.is_sorted() && published.last() == Some(&(FAILS - 1)));
        },
        2_000,
    );
}
