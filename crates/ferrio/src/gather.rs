//! Many at once, and their results in order.

use std::future::{Future, pending};

use crate::task_group::task_group;

/// Runs `futures` beside each other, as tasks, and returns their values in the order of the futures.
///
/// The first that fails ends all: the others are dropped where they wait, and its error is returned when none is left.
///
/// # Errors
///
/// The first error.
///
/// # Panics
///
/// With the panic of a future, after all others are gone; and when it is polled on a thread that runs no loop.
///
/// # Cancel safety
///
/// Dropping it ends all, in the loop's next turn.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// async fn job(id: u32) -> Result<u32, ferrio::Elapsed> {
///     ferrio::timeout(Duration::from_secs(1), ferrio::yield_now()).await?;
///     Ok(id)
/// }
///
/// let ids = ferrio::run(ferrio::gather((1..=3).map(job)))?;
/// assert_eq!(ids, Ok(vec![1, 2, 3]));
/// # Ok::<(), std::io::Error>(())
/// ```
pub async fn gather<T, E, F>(futures: impl IntoIterator<Item = F>) -> Result<Vec<T>, E>
where
    T: 'static,
    E: 'static,
    F: Future<Output = Result<T, E>> + 'static,
{
    task_group(async |group| {
        let tasks: Vec<_> = futures.into_iter().map(|future| group.spawn(future)).collect();
        let mut values = Vec::with_capacity(tasks.len());
        for task in tasks {
            match task.await {
                Ok(value) => values.push(value),
                // The group is ending, and drops this.
                Err(_) => pending().await,
            }
        }
        Ok(values)
    })
    .await
}
