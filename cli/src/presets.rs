//! What is known of public data sets: the classes that networks are trained on, their colours, and the ids and colours
//! in files of labels.

use clap::ValueEnum;

/// A colour: red, green, blue.
pub type Colour = [u8; 3];

/// A public data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Preset {
    /// PASCAL VOC: 21 classes, 255 is void
    Voc,
    /// Cityscapes: labelIds or colours, 34 ids of which 19 are classes
    Cityscapes,
    /// CamVid: 11 classes, 11 is void; or the 32 colours
    Camvid,
    /// ADE20K: 0 is other, class = id - 1
    Ade20k,
}

/// A label of Cityscapes: id, name, colour, the class it is.
type CityLabel = (i32, &'static str, Colour, Option<usize>);

const VOC: [&str; 21] = [
    "background",
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
];

const CITYSCAPES: [CityLabel; 34] = [
    (0, "unlabeled", [0, 0, 0], None),
    (1, "ego vehicle", [0, 0, 0], None),
    (2, "rectification border", [0, 0, 0], None),
    (3, "out of roi", [0, 0, 0], None),
    (4, "static", [0, 0, 0], None),
    (5, "dynamic", [111, 74, 0], None),
    (6, "ground", [81, 0, 81], None),
    (7, "road", [128, 64, 128], Some(0)),
    (8, "sidewalk", [244, 35, 232], Some(1)),
    (9, "parking", [250, 170, 160], None),
    (10, "rail track", [230, 150, 140], None),
    (11, "building", [70, 70, 70], Some(2)),
    (12, "wall", [102, 102, 156], Some(3)),
    (13, "fence", [190, 153, 153], Some(4)),
    (14, "guard rail", [180, 165, 180], None),
    (15, "bridge", [150, 100, 100], None),
    (16, "tunnel", [150, 120, 90], None),
    (17, "pole", [153, 153, 153], Some(5)),
    // Its colour is the pole's: in files of colours it counts as one.
    (18, "polegroup", [153, 153, 153], None),
    (19, "traffic light", [250, 170, 30], Some(6)),
    (20, "traffic sign", [220, 220, 0], Some(7)),
    (21, "vegetation", [107, 142, 35], Some(8)),
    (22, "terrain", [152, 251, 152], Some(9)),
    (23, "sky", [70, 130, 180], Some(10)),
    (24, "person", [220, 20, 60], Some(11)),
    (25, "rider", [255, 0, 0], Some(12)),
    (26, "car", [0, 0, 142], Some(13)),
    (27, "truck", [0, 0, 70], Some(14)),
    (28, "bus", [0, 60, 100], Some(15)),
    (29, "caravan", [0, 0, 90], None),
    (30, "trailer", [0, 0, 110], None),
    (31, "train", [0, 80, 100], Some(16)),
    (32, "motorcycle", [0, 0, 230], Some(17)),
    (33, "bicycle", [119, 11, 32], Some(18)),
];

/// The 11 classes that CamVid's 32 labels are grouped to, with their colours.
const CAMVID: [(&str, Colour); 11] = [
    ("Sky", [128, 128, 128]),
    ("Building", [128, 0, 0]),
    ("Pole", [192, 192, 128]),
    ("Road", [128, 64, 128]),
    ("Pavement", [60, 40, 222]),
    ("Tree", [128, 128, 0]),
    ("SignSymbol", [192, 128, 128]),
    ("Fence", [64, 64, 128]),
    ("Car", [64, 0, 128]),
    ("Pedestrian", [64, 64, 0]),
    ("Bicyclist", [0, 128, 192]),
];

/// The other labels of CamVid, and the class that each is grouped to.
const CAMVID_OTHERS: [(Colour, Option<usize>); 22] = [
    ([64, 128, 64], Some(9)),   // Animal
    ([192, 0, 128], Some(1)),   // Archway
    ([0, 128, 64], Some(1)),    // Bridge
    ([64, 0, 192], Some(9)),    // CartLuggagePram
    ([192, 128, 64], Some(9)),  // Child
    ([128, 0, 192], Some(3)),   // LaneMkgsDriv
    ([192, 0, 64], Some(3)),    // LaneMkgsNonDriv
    ([128, 128, 64], Some(6)),  // Misc_Text
    ([192, 0, 192], Some(10)),  // MotorcycleScooter
    ([128, 64, 64], Some(8)),   // OtherMoving
    ([64, 192, 128], Some(4)),  // ParkingBlock
    ([128, 128, 192], Some(4)), // RoadShoulder
    ([0, 0, 192], Some(4)),     // Sidewalk
    ([64, 128, 192], Some(8)),  // SUVPickupTruck
    ([0, 0, 64], Some(2)),      // TrafficCone
    ([0, 64, 64], Some(6)),     // TrafficLight
    ([192, 64, 128], Some(8)),  // Train
    ([192, 128, 192], Some(8)), // Truck_Bus
    ([64, 0, 64], Some(1)),     // Tunnel
    ([192, 192, 0], Some(5)),   // VegetationMisc
    ([0, 0, 0], None),          // Void
    ([64, 192, 0], Some(1)),    // Wall
];

/// Void in PASCAL VOC, and in ids of classes generally.
const VOID: i32 = 255;

impl Preset {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Voc => "voc",
            Self::Cityscapes => "cityscapes",
            Self::Camvid => "camvid",
            Self::Ade20k => "ade20k",
        }
    }

    /// The preset called `name`.
    pub fn of_name(name: &str) -> Option<Self> {
        let all = Self::value_variants().iter().copied();
        all.into_iter().find(|preset| preset.name() == name)
    }

    /// The names of the classes, in the order of a network's ids. `None` if any number of classes is right.
    pub fn classes(self) -> Option<Vec<&'static str>> {
        match self {
            Self::Voc => Some(VOC.to_vec()),
            Self::Cityscapes => {
                let classes = CITYSCAPES.iter().filter(|label| label.3.is_some());
                Some(classes.map(|label| label.1).collect())
            }
            Self::Camvid => Some(CAMVID.iter().map(|class| class.0).collect()),
            Self::Ade20k => None,
        }
    }

    /// The colours of the classes. `None` if the data set has none.
    pub fn palette(self) -> Option<Vec<Colour>> {
        match self {
            Self::Voc => Some(fullconv::Palette::voc(VOC.len()).colours().to_vec()),
            Self::Cityscapes => {
                let classes = CITYSCAPES.iter().filter(|label| label.3.is_some());
                Some(classes.map(|label| label.2).collect())
            }
            Self::Camvid => Some(CAMVID.iter().map(|class| class.1).collect()),
            Self::Ade20k => None,
        }
    }

    /// The ids in labels, each with its class out of `classes`, or `None` for void.
    pub fn ids(self, classes: usize) -> Vec<(i32, Option<usize>)> {
        let same = |count: usize| (0..count).map(|class| (class as i32, Some(class)));
        match self {
            Self::Voc => same(VOC.len()).chain([(VOID, None)]).collect(),
            Self::Cityscapes => {
                let labels = CITYSCAPES.iter().map(|label| (label.0, label.3));
                // The licence plate has id -1, which is 255 in a byte.
                labels.chain([(-1, None)]).collect()
            }
            Self::Camvid => {
                let void = CAMVID.len() as i32;
                same(CAMVID.len())
                    .chain([(void, None), (VOID, None)])
                    .collect()
            }
            Self::Ade20k => {
                let classes = (0..classes).map(|class| (class as i32 + 1, Some(class)));
                classes.chain([(0, None)]).collect()
            }
        }
    }

    /// The colours in labels, each with its class, or `None` for void.
    pub fn colours(self) -> Vec<(Colour, Option<usize>)> {
        let of_classes = |palette: Vec<Colour>| {
            let classes = palette.into_iter().enumerate();
            classes.map(|(class, colour)| (colour, Some(class)))
        };
        match self {
            Self::Voc => {
                let void = fullconv::Palette::voc(0).colour(u8::MAX);
                let classes = of_classes(self.palette().unwrap_or_default());
                classes.chain([(void, None)]).collect()
            }
            Self::Cityscapes => {
                let labels = CITYSCAPES.iter().filter(|label| label.1 != "polegroup");
                let mut colours: Vec<_> = labels.map(|label| (label.2, label.3)).collect();
                colours.dedup();
                colours
            }
            Self::Camvid => {
                let classes = of_classes(self.palette().unwrap_or_default());
                classes.chain(CAMVID_OTHERS).collect()
            }
            Self::Ade20k => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_class_has_a_name_a_colour_and_a_label() {
        for preset in [Preset::Voc, Preset::Cityscapes, Preset::Camvid] {
            let names = preset.classes().unwrap();
            let palette = preset.palette().unwrap();
            assert_eq!(names.len(), palette.len());
            let of_ids: BTreeSet<_> = preset.ids(0).iter().filter_map(|(_, c)| *c).collect();
            assert_eq!(of_ids, (0..names.len()).collect());
            let colours = preset.colours();
            let distinct: BTreeSet<_> = colours.iter().map(|(colour, _)| colour).collect();
            assert_eq!(distinct.len(), colours.len());
            for (class, colour) in palette.iter().enumerate() {
                assert!(
                    colours.contains(&(*colour, Some(class))),
                    "{preset:?} {class}"
                );
            }
        }
    }

    #[test]
    fn what_the_data_sets_say() {
        let city = Preset::Cityscapes;
        assert_eq!(city.classes().unwrap().len(), 19);
        for (id, class) in [
            (7, Some(0)),
            (11, Some(2)),
            (26, Some(13)),
            (33, Some(18)),
            (4, None),
        ] {
            assert!(city.ids(19).contains(&(id, class)));
        }
        assert_eq!(Preset::Camvid.colours().len(), 33);
        assert_eq!(
            Preset::Ade20k.ids(2),
            [(1, Some(0)), (2, Some(1)), (0, None)]
        );
        assert_eq!(Preset::of_name("voc"), Some(Preset::Voc));
        assert_eq!(Preset::of_name("VOC.txt"), None);
    }
}
