//! Valgrind's client requests, as `valgrind.h` and `callgrind.h` of valgrind 3.19 spell them: instructions that do
//! nothing on a processor and that valgrind recognises.

const RUNNING_ON_VALGRIND: usize = 0x1001;
/// `VG_USERREQ_TOOL_BASE('C', 'T')`, where callgrind's own requests begin.
const CALLGRIND: usize = ((b'C' as usize) << 24) | ((b'T' as usize) << 16);
const DUMP_STATS: usize = CALLGRIND;
const ZERO_STATS: usize = CALLGRIND + 1;
const START_INSTRUMENTATION: usize = CALLGRIND + 4;

/// Whether this process runs under valgrind.
pub fn running() -> bool {
    request(RUNNING_ON_VALGRIND) != 0
}

/// Begins to count.
pub fn start() {
    request(START_INSTRUMENTATION);
}

/// Sets callgrind's counts to zero.
pub fn zero() {
    request(ZERO_STATS);
}

/// Has callgrind write its counts to its next file.
pub fn dump() {
    request(DUMP_STATS);
}

#[cfg(target_arch = "x86_64")]
fn request(code: usize) -> usize {
    let arguments = [code, 0, 0, 0, 0, 0];
    let mut answer = 0_usize;
    // SAFETY: the rotations add up to 128 and leave rdi as it was, and the exchange of rbx with itself does nothing.
    // Valgrind reads `arguments`, which live until after the block, and writes rdx.
    unsafe {
        std::arch::asm!(
            "rol rdi, 3", "rol rdi, 13", "rol rdi, 61", "rol rdi, 51", "xchg rbx, rbx",
            inout("rdx") answer,
            in("rax") arguments.as_ptr(),
            inout("rdi") 0_usize => _,
        );
    }
    answer
}

#[cfg(target_arch = "aarch64")]
fn request(code: usize) -> usize {
    let arguments = [code, 0, 0, 0, 0, 0];
    let mut answer = 0_usize;
    // SAFETY: the rotations of x12 add up to 128 and leave it as it was, and x10 is combined with itself. Valgrind
    // reads `arguments`, which live until after the block, and writes x3.
    unsafe {
        std::arch::asm!(
            "ror x12, x12, #3", "ror x12, x12, #13", "ror x12, x12, #51", "ror x12, x12, #61", "orr x10, x10, x10",
            inout("x3") answer,
            in("x4") arguments.as_ptr(),
            inout("x12") 0_usize => _,
        );
    }
    answer
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn request(_code: usize) -> usize {
    0
}
