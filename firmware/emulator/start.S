# Reset and trap entry of the QEMU `virt` machine, one hart, machine mode.
    .section .init, "ax"
    .globl _start
_start:
    la      t0, trap_entry          # first of all, so that whatever fails next says so
    csrw    mtvec, t0
    li      t0, 0x6000              # mstatus.FS: floating point on, before the first F instruction
    csrs    mstatus, t0
    csrw    fcsr, zero
    .option push
    .option norelax
    la      gp, __global_pointer$
    .option pop
    la      sp, __stack_top

    la      t0, __bss_start
    la      t1, __bss_end
1:  bgeu    t0, t1, 2f
    sw      zero, 0(t0)
    addi    t0, t0, 4
    j       1b

2:  la      s0, __init_array_start  # static constructors
    la      s1, __init_array_end
3:  bgeu    s0, s1, 4f
    lw      t0, 0(s0)
    jalr    t0
    addi    s0, s0, 4
    j       3b

4:  call    main
    call    uhd_exit

    .balign 4
trap_entry:
    la      sp, __stack_top         # the old stack may be what failed
    csrr    a0, mcause
    csrr    a1, mepc
    csrr    a2, mtval
    call    uhd_trap
