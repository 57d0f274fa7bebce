//! A filter: delivers messages that come from within a circle on the map. Where a message comes from
//! stands in two of its properties, in degrees.

use quern_plugin::{Batch, Description, Filter, Needs, Param, Params, Refusal, Text};

pub struct GeoFence {
    properties: (String, String),
    /// Latitude and longitude of the centre, radians.
    centre: (f64, f64),
    radius_km: f64,
    outside: bool,
}

/// Mean radius of the Earth.
const EARTH_KM: f64 = 6_371.0;

impl Filter for GeoFence {
    fn describe() -> Description {
        let summary = "messages from within a circle on the map";
        Description::new("geo-fence", env!("CARGO_PKG_VERSION"), summary)
            .param(Param::number("lat", "latitude of the centre, degrees"))
            .param(Param::number("lon", "longitude of the centre, degrees"))
            .param(Param::number("radius-km", "how far from it, km"))
            .param(Param::boolean("outside", "deliver what lies outside").default(false))
            .param(Param::text("lat-property", "property of the latitude").default("lat"))
            .param(Param::text("lon-property", "property of the longitude").default("lon"))
    }

    fn compile(_: &str, params: &Params) -> Result<Self, Refusal> {
        for (name, most) in [("lat", 90.0), ("lon", 180.0), ("radius-km", 20_100.0)] {
            let value = params.number(name);
            let least = if name == "radius-km" { 0.0 } else { -most };
            if !(least..=most).contains(&value) {
                let reason = format!("{name} is {least} to {most}");
                return Err(Refusal::param(name, params.text(name).len(), reason));
            }
        }
        let property = |name| params.text(name).to_owned();
        Ok(Self {
            properties: (property("lat-property"), property("lon-property")),
            centre: (
                params.number("lat").to_radians(),
                params.number("lon").to_radians(),
            ),
            radius_km: params.number("radius-km"),
            outside: params.boolean("outside"),
        })
    }

    fn needs(&self) -> Needs {
        let (lat, lon) = self.properties.clone();
        Needs::new()
            .text(Text::Property(lat))
            .text(Text::Property(lon))
    }

    fn matches(&self, batch: &Batch, message: usize) -> Result<bool, String> {
        let degrees = |field, most: f64| {
            let value: f64 = batch.text(message, field)?.trim().parse().ok()?;
            (-most..=most).contains(&value).then(|| value.to_radians())
        };
        let (Some(lat), Some(lon)) = (degrees(0, 90.0), degrees(1, 180.0)) else {
            return Ok(false);
        };
        let inside = distance_km(self.centre, (lat, lon)) <= self.radius_km;
        Ok(inside != self.outside)
    }
}

/// Great-circle distance, by the haversine formula.
fn distance_km(from: (f64, f64), to: (f64, f64)) -> f64 {
    let half = |a: f64, b: f64| ((b - a) / 2.0).sin().powi(2);
    let chord = half(from.0, to.0) + from.0.cos() * to.0.cos() * half(from.1, to.1);
    2.0 * EARTH_KM * chord.sqrt().min(1.0).asin()
}

quern_plugin::export_filter!(GeoFence);
