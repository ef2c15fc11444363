//! Many runs at a time: as many as the machine has processors. Each has a thread to itself and does not know of the others.

use std::sync::Mutex;

/// Does `work` for all `jobs`, which are begun in their order. The results are in the same order.
pub fn each<J: Send, R: Send>(jobs: Vec<J>, work: impl Fn(J) -> R + Sync) -> Vec<R> {
    let results = Mutex::new(Vec::new());
    each_of(jobs.into_iter().enumerate(), |(index, job)| {
        let result = work(job);
        results.lock().expect("nothing panics in here").push((index, result));
    });
    let mut results = results.into_inner().expect("all threads are done");
    results.sort_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}

/// Does `work` for all `jobs`, of which there may be very many: they are begun in their order, and nothing is kept of them.
pub fn each_of<J: Send>(jobs: impl Iterator<Item = J> + Send, work: impl Fn(J) + Sync) {
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let jobs = Mutex::new(jobs);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(job) = { jobs.lock().expect("nothing panics in here").next() } {
                    work(job);
                }
            });
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_the_order_of_the_jobs() {
        assert_eq!(each((0..100).collect(), |job| job * 2), (0..100).map(|job| job * 2).collect::<Vec<_>>());
        assert_eq!(each(Vec::<u8>::new(), |job| job), [0; 0]);
    }
}
