use super::{Bus, Refusal};
use crate::host::Error;

impl Bus {
    /// Whether something keeps the machine's clock right, as the kernel was told: `NTPSynchronized` of
    /// org.freedesktop.timedate1(5). It holds for any program that does it.
    ///
    /// # Errors
    /// Where nobody answers: the service may not be installed.
    pub fn clock_synchronized(&self) -> Result<bool, Error> {
        const SERVICE: &str = "org.freedesktop.timedate1";
        let asked = async {
            let reply = self
                .connection
                .call_method(
                    Some(SERVICE),
                    "/org/freedesktop/timedate1",
                    Some("org.freedesktop.DBus.Properties"),
                    "Get",
                    &(SERVICE, "NTPSynchronized"),
                )
                .await?;
            let value: zbus::OwnedVariant = reply.body().deserialize()?;
            bool::try_from(value)
        };
        self.runtime.block_on(asked).map_err(|error: zbus::Error| Error::Unknown {
            thing: "the clock".to_owned(),
            why: Refusal::from(error).text,
        })
    }
}
