//! x
use aerolith_rigs::{fuse::*, host::*, load, image::Image, survival::Shape};
fn main() {
    let mut args = std::env::args();
    let _ = args.next();
    let home = Home::new().unwrap();
    let stack = match args.next().as_deref() { Some("xfs") => Stack::Xfs, Some("raw") => Stack::Raw, Some("direct")=>Stack::Direct, _ => Stack::Ext4 };
    println!("missing {:?}", stack.missing());
    let control = Control::new(stack.disk_size());
    let served = Served::mount(&control, &home.fuse()).unwrap();
    control.insert(Image::new(stack.disk_size()), 512, false);
    let t = std::time::Instant::now();
    Setup::format(&home, stack, 512).unwrap();
    println!("format {:?}", t.elapsed());
    let image = control.pull();
    println!("resident {} {:?}", image.resident_size(), control.asked());
    for _ in 0..3 {
    control.insert(image.clone(), 512, false);
    let t = std::time::Instant::now();
    let setup = Setup::begin(&home, stack, 512).unwrap().finish().unwrap();
    println!("up {:?} {}", t.elapsed(), setup.path.display());
    println!("{:?}", run("losetup", &["-l"]));
    std::thread::sleep(std::time::Duration::from_millis(100));
    let t = std::time::Instant::now();
    let (i, _) = control.cut(Shape::All, 1);
    println!("cut {:?} {}", t.elapsed(), i.resident_size());
    let t = std::time::Instant::now();
    drop(setup);
    println!("down {:?} {:?}", t.elapsed(), control.asked());
    }
    drop(served);
    drop(home);
    let _ = load::wall_ms();
}
