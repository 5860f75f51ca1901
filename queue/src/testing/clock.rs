//! The function library with a clock that the test sets, so that runs are repeatable and may jump by hours.

use redis::Value;
use redis::aio::ConnectionManager;

use crate::error::{Error, Result};

/// How the library reads the server's time.
const READ: &str = "call('TIME')";
/// Where it does so: when a call is opened, and when a policy is written.
const READS: usize = 2;
/// What stands there instead.
const TEST_READ: &str = "lk.test_time()";

/// The end of the library: the test's clock, in µs since the epoch.
const TEST_CLOCK: &str = "
do
  local test_us = 0
  function lk.test_time()
    local us = test_us % 1000000
    return {string.format('%.0f', (test_us - us) / 1000000), string.format('%.0f', us)}
  end
  redis.register_function{function_name = 'lk_test_clock', flags = {'no-writes'}, callback = function(_, args)
    test_us = tonumber(args[1])
    return 1
  end}
end
";

/// The library's source with every read of the server's time replaced by one of the test's clock. Calls see 1970 until
/// `set` was called.
///
/// # Errors
/// When the source does not read the time where this module expects it to.
pub fn with_test_clock(source: &str) -> std::result::Result<String, String> {
    // Taken apart first: `redis.call('TIME')` holds the shorter spelling.
    let plain = source.replace(&format!("redis.{READ}"), READ);
    let found = plain.matches(READ).count();
    if found != READS || plain.matches("'TIME'").count() != READS || plain.contains("\"TIME\"") {
        return Err(format!(
            "the library reads the time {found} times as {READ}, not {READS} times: look at every place and adapt \
             testing/clock.rs"
        ));
    }
    Ok(plain.replace(READ, TEST_READ) + TEST_CLOCK)
}

/// Loads a source made by `with_test_clock` in place of the library that is there. Also forgets what the library
/// remembered between calls, such as compiled policies.
///
/// # Errors
/// When Redis cannot be reached or does not take the source.
pub async fn load(conn: &mut ConnectionManager, source: &str) -> Result<()> {
    let _: Value = redis::cmd("FUNCTION")
        .arg("LOAD")
        .arg("REPLACE")
        .arg(source)
        .query_async(conn)
        .await
        .map_err(Error::from_redis)?;
    Ok(())
}

/// Sets the clock, µs since the epoch.
///
/// # Errors
/// When Redis cannot be reached or the library there has no such clock.
pub async fn set(conn: &mut ConnectionManager, us: u64) -> Result<()> {
    let _: Value = redis::cmd("FCALL")
        .arg("lk_test_clock")
        .arg(0)
        .arg(us)
        .query_async(conn)
        .await
        .map_err(Error::from_redis)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_read_of_the_time_is_the_tests() {
        let source = with_test_clock(crate::library_source()).unwrap();
        assert_eq!(source.matches(&format!("= {TEST_READ}")).count(), READS);
        assert!(!source.contains("'TIME'"));
    }

    #[test]
    fn a_read_that_nobody_expected_is_an_error() {
        let more = format!("{}\nlocal t = redis.call('TIME')\n", crate::library_source());
        assert!(with_test_clock(&more).unwrap_err().contains("3 times"));
    }
}
